"""Gradient norms by module, counts of non-finite entries, and skipping of updates that have any.

Nothing is replaced by zero: a non-finite gradient or loss changes neither parameters nor optimiser state, is counted,
and is stored with the state and inputs that produced it, so that it can be reproduced (DESIGN 6).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax.traverse_util import unflatten_dict

from drone_cbf.arrays import Scalar, ravel_leaves, tree_norm
from drone_cbf.errors import TrainingError
from drone_cbf.recorder import Recorder

State = TypeVar("State")
"""A training state with fields ``step`` and ``skipped``."""

SKIPPED = "grad_health/skipped"
"""Updates skipped so far."""


def health_metrics(gradients: Mapping[str, Any]) -> dict[str, Scalar]:
    """Of gradients by network name (``policy``, ``cbf``): ``grad_norm/<network>`` and ``grad_norm/<network>/<module>``
    (top-level modules) before clipping; ``grad_health/nonfinite_<network>``, the number of NaN and infinite entries."""
    metrics = {}
    for network, gradient in gradients.items():
        metrics[f"grad_norm/{network}"] = tree_norm(gradient)
        modules = gradient["params"] if set(gradient) == {"params"} else gradient  # flax: {"params": {module: ...}}
        metrics |= {f"grad_norm/{network}/{name}": tree_norm(part) for name, part in modules.items()}
        nonfinite = jnp.sum(~jnp.isfinite(ravel_leaves(gradient)))
        metrics[f"grad_health/nonfinite_{network}"] = nonfinite.astype(jnp.float32)
    return metrics


def to_floats(metrics: Mapping[str, Scalar]) -> dict[str, float]:
    """Metrics as Python numbers, fetched from the device in one transfer."""
    return {name: float(value) for name, value in jax.device_get(dict(metrics)).items()}


def skip_if_nonfinite(state: State, updated: State, metrics: dict[str, Scalar]) -> tuple[State, dict[str, Scalar]]:
    """``updated`` or, if a loss or gradient is not finite, ``state`` at the next step with one more update skipped; and
    the metrics with the number of skipped updates. Runs inside ``jit``."""
    losses = [jnp.isfinite(value) for name, value in metrics.items() if name.startswith("loss/")]
    counts = [value == 0.0 for name, value in metrics.items() if name.startswith("grad_health/nonfinite_")]
    healthy = jnp.all(jnp.stack([*losses, *counts]))
    skipping = state.replace(step=state.step + 1, skipped=state.skipped + 1)
    chosen = jax.tree.map(lambda new, old: jnp.where(healthy, new, old), updated, skipping)
    return chosen, metrics | {SKIPPED: chosen.skipped.astype(jnp.float32)}


def check_health(
    values: Mapping[str, float], step: int, limit: int, recorder: Recorder, state: State, inputs: Mapping[str, Any]
) -> None:
    """After an update, on the host: if it was skipped, store a dump and an event; past ``limit``, raise.

    Args:
        state: after update ``step``. A skipped update changes only its ``step`` and ``skipped``.
        inputs: the other inputs of the update.

    Raises:
        TrainingError: more than ``limit`` updates have been skipped.
    """
    sources = nonfinite_sources(values)
    if not sources:
        return
    name, skipped = f"nonfinite_{step}", int(values[SKIPPED])
    before = state.replace(step=state.step - 1, skipped=state.skipped - 1)
    recorder.checkpoint(step, {"state": before, "figures": nested(values), **inputs}, name)
    what = ", ".join(sources)
    recorder.event(step, f"update skipped, not finite: {what}; its state and inputs are checkpoints/{name}")
    if skipped > limit:
        raise TrainingError(
            f"{skipped} updates had a loss or gradient that is not finite (nonfinite_limit = {limit}), the last at "
            f"step {step} in {what}; its state and inputs are the run's artifact checkpoints/{name} "
            "(docs/gradient-health.md says how to compute it again); lower the learning rate or shorten the horizon"
        )


def nonfinite_sources(values: Mapping[str, float]) -> list[str]:
    """Modules whose gradient, or else losses whose value, is not finite; empty for a healthy update."""
    counted = any(value > 0.0 for name, value in values.items() if name.startswith("grad_health/nonfinite_"))
    nonfinite = [name for name, value in values.items() if not math.isfinite(value)]
    losses = [name for name in nonfinite if name.startswith("loss/")]
    norms = [name.removeprefix("grad_norm/") for name in nonfinite if name.startswith("grad_norm/")]
    modules_found = [name for name in norms if "/" in name]
    return (modules_found or losses or ["the gradient"]) if counted or losses else []


def nested(values: Mapping[str, float]) -> dict[str, Any]:
    """Metrics as float32, nested by the parts of their names; a name that is also a group becomes ``all`` in it."""
    groups = {name.rpartition("/")[0] for name in values}
    flat = {f"{name}/all" if name in groups else name: jnp.float32(value) for name, value in values.items()}
    return unflatten_dict(flat, sep="/")
