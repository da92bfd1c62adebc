"""What a stage taught the barrier: its losses before and after, on the same states, which no update learned from.

The loss of an update is on states of its own. From one update to the next it changes by some 15 % for that alone, more
than a stage changes it that begins with a good barrier.
"""

from __future__ import annotations

from collections.abc import Callable

import jax

from drone_cbf.arrays import Scalar
from drone_cbf.barrier.neural import BarrierParams
from drone_cbf.config import SystemConfig
from drone_cbf.devices import jit_update, shard_batch
from drone_cbf.training.barrier.minibatches import (
    Flights,
    Minibatch,
    make_minibatch_losses,
    make_state_picker,
    uses_teacher,
)
from drone_cbf.training.barrier.sampled_states import make_sampled_batch
from drone_cbf.training.data.flights import Measured, report_key
from drone_cbf.training.data.flown_states import make_record
from drone_cbf.training.settings import SafetySettings

STATES = 2048
"""Flown states, and as many sampled ones where the teacher is asked: four times those of a step."""
PURPOSE = 2
"""Of the key that picks them."""
HeldOutLosses = Callable[[BarrierParams, BarrierParams, Measured], dict[str, float]]
"""(barrier with which a stage began, barrier that leaves it, flights that measured it) -> ``<loss>_before`` and
``<loss>_after``."""


def make_held_out_losses(system: SystemConfig, settings: SafetySettings, root: jax.Array) -> HeldOutLosses:
    """The losses that have a weight in some stage (``training/barrier/minibatches.py``), without it.

    The flights are those by which the stage's gate judges, with its own noise throughout.
    """
    learning = settings.curriculum.learning
    record, draw = make_record(system, learning.look_ahead), make_state_picker(system, settings, STATES)
    sample = make_sampled_batch(system, STATES, learning.strata) if uses_teacher(settings) else None
    losses = make_minibatch_losses(system, settings)

    @jit_update
    def taught(barrier: BarrierParams, flights: Flights) -> dict[str, Scalar]:
        visit_key, state_key = jax.random.split(report_key(root, PURPOSE))
        flown = record(flights.trajectories, flights.scenes)
        sampled = shard_batch(sample(state_key)) if sample else None
        values = losses(barrier, Minibatch(moments=draw(flown, flights, None, visit_key), sampled=sampled))
        return {name: value for name, value in values.items() if name in settings.curriculum.weights_used}

    def held_out_losses(before: BarrierParams, after: BarrierParams, measured: Measured) -> dict[str, float]:
        flights = Flights(trajectories=measured.flown.trajectories, scenes=measured.scenes)
        found = {when: jax.device_get(taught(one, flights)) for when, one in (("before", before), ("after", after))}
        return {f"{name}_{when}": float(value) for when, values in found.items() for name, value in values.items()}

    return held_out_losses
