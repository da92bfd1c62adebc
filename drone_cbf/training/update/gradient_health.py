"""Health of the gradient: norms by module, entries that are not finite, and an update that is skipped because of them.

Nothing is turned into zero: a gradient or a loss that is not finite changes no parameter and no optimiser state, is
counted, and is stored with the state from which it came, so that it can be computed again (DESIGN 6).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

from drone_cbf.arrays import Scalar, ravel_leaves, tree_norm
from drone_cbf.errors import TrainingError
from drone_cbf.training.recorder import Recorder

State = TypeVar("State")
"""A state of training with fields ``step`` and ``skipped``."""

SKIPPED = "grad_health/skipped"
"""Updates skipped so far."""
DUMP = "nonfinite_{step}"
"""Checkpoint that holds what update ``step`` began with."""


def health_figures(gradients: Mapping[str, Any]) -> dict[str, Scalar]:
    """Norms and counts of the gradients of some networks, each by its name in charts: ``policy``, ``cbf``.

    ``grad_norm/<network>``, ``grad_norm/<network>/<module>`` for each module at the top of its parameters, before
    clipping, and ``grad_health/nonfinite_<network>``, the number of entries that are NaN or infinite.
    """
    figures = {f"grad_norm/{network}": tree_norm(gradient) for network, gradient in gradients.items()}
    for network, gradient in gradients.items():
        figures |= {f"grad_norm/{network}/{name}": tree_norm(part) for name, part in modules(gradient).items()}
        bad = jnp.sum(~jnp.isfinite(ravel_leaves(gradient)))
        figures[f"grad_health/nonfinite_{network}"] = bad.astype(jnp.float32)
    return figures


def modules(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The top-level modules of flax variables (``{"params": {module: ...}}``), by name."""
    inner = variables["params"] if set(variables) == {"params"} else variables
    return dict(inner)


def on_host(figures: Mapping[str, Scalar]) -> dict[str, float]:
    """The figures of an update as numbers, fetched in one go: one by one, each waits for the device."""
    return {name: float(value) for name, value in jax.device_get(dict(figures)).items()}


def is_healthy(figures: Mapping[str, Scalar]) -> Array:
    """Whether every loss is finite and so is every entry of every gradient."""
    losses = [jnp.isfinite(value) for name, value in figures.items() if name.startswith("loss/")]
    counts = [value == 0.0 for name, value in figures.items() if name.startswith("grad_health/nonfinite_")]
    return jnp.all(jnp.stack([*losses, *counts]))


def skip_if_unhealthy(state: State, following: State, figures: dict[str, Scalar]) -> tuple[State, dict[str, Scalar]]:
    """``following``, or, if ``figures`` are not healthy, ``state`` at the next step with one more update skipped.

    Inside ``jit``. Also the figures with the number of skipped updates.
    """
    healthy = is_healthy(figures)
    skipping = state.replace(step=state.step + 1, skipped=state.skipped + 1)
    chosen = jax.tree.map(lambda new, old: jnp.where(healthy, new, old), following, skipping)
    return chosen, figures | {SKIPPED: chosen.skipped.astype(jnp.float32)}


def watch_health(
    values: Mapping[str, float], step: int, limit: int, recorder: Recorder, state: State, inputs: Mapping[str, Any]
) -> None:
    """On the host, after an update: nothing if it was healthy; else the dump, an event, and past ``limit`` the end.

    Args:
        state: after update ``step``; it was skipped, so all but ``step`` and ``skipped`` is what the update began with.
        inputs: what else the update was given.

    Raises:
        TrainingError: more than ``limit`` updates have been skipped.
    """
    causes = unhealthy(values)
    if not causes:
        return
    name, skipped = DUMP.format(step=step), int(values[SKIPPED])
    before = state.replace(step=state.step - 1, skipped=state.skipped - 1)
    recorder.checkpoint(step, {"state": before, "figures": nested(values), **inputs}, name)
    what = ", ".join(causes)
    recorder.event(step, f"update skipped, not finite: {what}; what it began with is checkpoints/{name}")
    if skipped > limit:
        raise TrainingError(
            f"{skipped} updates had a loss or gradient that is not finite (nonfinite_limit = {limit}), the last at "
            f"step {step} in {what}; its state and inputs are the run's artifact checkpoints/{name} "
            "(docs/gradient-health.md says how to compute it again); lower the learning rate or shorten the horizon"
        )


def unhealthy(values: Mapping[str, float]) -> list[str]:
    """Names of modules whose gradient, or else of losses which, are not finite; none for an update that was made."""
    counted = any(value > 0.0 for name, value in values.items() if name.startswith("grad_health/nonfinite_"))
    losses = [name for name, value in values.items() if name.startswith("loss/") and not math.isfinite(value)]
    places = [
        name.removeprefix("grad_norm/")
        for name, value in values.items()
        if _is_module(name) and not math.isfinite(value)
    ]
    if not (counted or losses):
        return []
    return places or losses or ["the gradient"]


def _is_module(name: str) -> bool:
    return name.startswith("grad_norm/") and name.count("/") == 2


def nested(values: Mapping[str, float]) -> dict[str, Any]:
    """Figures nested by the parts of their names, as float32; a name that is also a group is ``all`` in it."""
    tree: dict[str, Any] = {}
    groups = {name.rpartition("/")[0] for name in values}
    for name, value in values.items():
        *path, last = (f"{name}/all" if name in groups else name).split("/")
        place = tree
        for part in path:
            place = place.setdefault(part, {})
        place[last] = jnp.float32(value)
    return tree
