"""Barrier losses before and after a curriculum stage, on the same held-out states. The training loss is no substitute:
from update to update it varies by about 15 % with the states alone, more than a stage changes it when the barrier is
already good."""

from __future__ import annotations

from collections.abc import Callable

import jax

from drone_cbf.arrays import Scalar
from drone_cbf.barrier.neural import BarrierParams
from drone_cbf.config import SystemConfig
from drone_cbf.devices import jit_update, shard_batch
from drone_cbf.training.barrier.minibatches import Flights, Minibatch, make_minibatch_losses, make_transition_sampler
from drone_cbf.training.barrier.sampled_states import make_sampled_batch
from drone_cbf.training.data.flights import MeasuredFlights, report_key
from drone_cbf.training.data.flown_states import make_flown_states
from drone_cbf.training.settings import SafetySettings

STATES = 2048
"""Flown states, and as many sampled ones for the teacher's losses: four times a training minibatch."""
PURPOSE = 2
"""``report_key`` purpose of the sampling."""


def make_held_out_losses(
    system: SystemConfig, settings: SafetySettings, root: jax.Array
) -> Callable[[BarrierParams, BarrierParams, MeasuredFlights], dict[str, float]]:
    """Function (barrier at the start of a stage, at its end, flights that measured it) -> ``<loss>_before`` and
    ``<loss>_after``, unweighted, for the losses that some stage uses."""
    curriculum = settings.curriculum
    flown_states = make_flown_states(system, curriculum.learning.look_ahead)
    sample_transitions = make_transition_sampler(system, settings, STATES)
    strata = curriculum.learning.strata
    sample_states = make_sampled_batch(system, STATES, strata) if curriculum.uses_teacher else None
    losses = make_minibatch_losses(system, settings)

    @jit_update
    def evaluate(barrier: BarrierParams, flights: Flights) -> dict[str, Scalar]:
        flown_key, state_key = jax.random.split(report_key(root, PURPOSE))
        flown = flown_states(flights.trajectories, flights.scenes)
        sampled = shard_batch(sample_states(state_key)) if sample_states else None
        transitions = sample_transitions(flown, flights, None, flown_key)
        values = losses(barrier, Minibatch(transitions=transitions, sampled=sampled))
        return {name: value for name, value in values.items() if name in curriculum.weights_used}

    def held_out_losses(before: BarrierParams, after: BarrierParams, measured: MeasuredFlights) -> dict[str, float]:
        flights = Flights(trajectories=measured.flown.trajectories, scenes=measured.scenes)
        found = {when: jax.device_get(evaluate(one, flights)) for when, one in (("before", before), ("after", after))}
        return {f"{name}_{when}": float(value) for when, values in found.items() for name, value in values.items()}

    return held_out_losses
