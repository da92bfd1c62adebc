"""Time of one decision: exported, compiled, and through the served model, measured by turns."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from drone_cbf.exporting.drone_policy import Policy
from drone_cbf.exporting.parity import Answer
from drone_cbf.serving.packing import Asked
from drone_cbf.serving.service import PolicyService

WARM = 20  # Calls before the first that counts


def decisions(
    service: PolicyService, policies: Mapping[str, Policy], answer: Answer, fields: Mapping[str, Any]
) -> dict[str, Callable[[], Any]]:
    """Calls that answer the observation ``fields`` by name.

    ``compiled``, and each form, are handed the program's arrays and give arrays of numpy back; ``<form>_loader`` and
    ``predict`` are asked as a user asks them, with the memory of the last answer.
    """
    remembered = {**fields, "memory": answer(fields)["memory"]}
    calls: dict[str, Callable[[], Any]] = {"predict": lambda: answer(remembered)}
    for form, policy in policies.items():
        _, memory = policy(None, **fields)
        given = {name: value for name, value in fields.items() if name != "position"}
        asked, _ = policy.pack(memory, fields["position"], given)
        calls[form] = partial(_on_the_host, policy.run, *asked)
        calls[f"{form}_loader"] = partial(policy, memory, **fields)
        calls["compiled"] = partial(_on_the_host, service.decide_batch, Asked(*asked))
    return calls


def _on_the_host(program: Callable[..., Any], *arrays: Any) -> list[np.ndarray]:
    return [np.asarray(values) for values in program(*arrays)]


def by_turns(calls: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, np.ndarray]:
    """Seconds of ``repeats`` calls of each, one after the other, so that other work on the machine meets all alike."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for index in range(WARM + repeats):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if index >= WARM:
                taken[name].append(time.perf_counter() - started)
    return {name: np.array(seconds) for name, seconds in taken.items()}


def figures(taken: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Median and 99th percentile by name [ms]."""
    return {
        name: {"p50": 1e3 * float(np.median(seconds)), "p99": 1e3 * float(np.quantile(seconds, 0.99))}
        for name, seconds in taken.items()
    }
