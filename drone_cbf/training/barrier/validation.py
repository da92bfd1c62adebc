"""The neural barrier on held-out states: compared with the analytic one near h = 0 and by strata; losses of a stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from drone_cbf.arrays import Scalar, concatenate_trees
from drone_cbf.barrier.calibration import Comparison, calibration_report, make_comparison, stratum_report
from drone_cbf.barrier.lessons import Lesson, uses_truth
from drone_cbf.barrier.neural import BarrierParams, make_neural_barrier
from drone_cbf.config import SceneName, SystemConfig
from drone_cbf.devices import jit_rarely_run, jit_update, shard_batch, to_host
from drone_cbf.training.barrier.minibatches import Flights, Minibatch, make_minibatch_losses, make_transition_sampler
from drone_cbf.training.barrier.sampled_states import families_beside, make_sampled_batch
from drone_cbf.training.curriculum.strata_mixture import STRATA, parse_strata, stratum_counts
from drone_cbf.training.data.flights import MeasuredFlights, report_key
from drone_cbf.training.data.flown_states import make_flown_states
from drone_cbf.training.population import Programs
from drone_cbf.training.settings import SafetySettings

LOSS_STATES = 2048
"""Flown states of the held-out losses, and as many sampled ones for the teacher's: four times a training minibatch."""
HELD_OUT_LOSSES = 2
"""``report_key`` purpose of these losses."""
STRATA_STATES = 8192
"""Held-out states, in equal shares per stratum."""
KEPT_NEAR_BOUNDARY = 16_384
"""Number of flown states that are compared, those with the smallest |h|."""
Comparer = Callable[[BarrierParams, Lesson], Comparison]
"""(parameters, lessons with a leading axis) -> both barriers on them."""


def nearest_to_boundary(lessons: Lesson, count: int) -> Lesson:
    """The ``count`` lessons (leading axis) with the smallest |h| of the teacher."""
    order = jnp.argsort(jnp.where(lessons.usable, jnp.abs(lessons.value), jnp.inf))[:count]
    return jax.tree.map(lambda x: x[order], lessons)


def make_comparer(system: SystemConfig) -> Comparer:
    """Compiled function that evaluates both barriers on lessons with a leading axis."""
    neural, compare = make_neural_barrier(system), make_comparison(system)

    @jax.jit
    def comparer(params: BarrierParams, lessons: Lesson) -> Comparison:
        return jax.lax.map(lambda lesson: compare(neural(params), lesson), lessons, batch_size=4096)

    return comparer


@dataclass(frozen=True)
class BarrierValidation:
    """Both barriers on held-out states."""

    flown: Comparison
    strata: Mapping[str, Comparison]
    confidence: float
    """Of the margin (``barrier.confidence``)."""

    def report(self) -> dict[str, float]:
        """Metrics of the flown states."""
        return calibration_report(self.flown, self.confidence)

    def strata_reports(self) -> dict[str, dict[str, float]]:
        """Metrics of every stratum."""
        return {name: stratum_report(comparison) for name, comparison in self.strata.items()}

    def metrics(self, prefix: str) -> dict[str, float]:
        """All metrics: ``<prefix>/<name>`` and ``<prefix>/<stratum>/<name>``."""
        reports = {prefix: self.report()} | {f"{prefix}/{name}": each for name, each in self.strata_reports().items()}
        return {f"{group}/{name}": value for group, report in reports.items() for name, value in report.items()}


@dataclass(frozen=True)
class HeldOutStrata:
    """Sampled states of every stratum, concatenated."""

    lessons: Lesson
    counts: Mapping[str, int]
    confidence: float

    def validate(self, compare: Comparer, barrier: BarrierParams, flown: Lesson) -> BarrierValidation:
        """Compare on ``flown`` and on the strata in one call, so that one compiled program serves both."""
        comparison = compare(barrier, concatenate_trees(flown, self.lessons))
        ends = np.cumsum((flown.value.shape[0], *self.counts.values()))
        flown_part, *parts = (
            jax.tree.map(lambda x: x[start:end], comparison) for start, end in zip((0, *ends), ends, strict=False)
        )
        strata = dict(zip(self.counts, parts, strict=True))
        return BarrierValidation(flown=flown_part, strata=strata, confidence=self.confidence)


def sample_held_out_strata(
    system: SystemConfig, families: Sequence[SceneName], key: jax.Array, programs: Programs
) -> HeldOutStrata:
    """Fresh states of every stratum in scenes of ``families``, in equal shares."""
    entries = [f"{name}:1" for name in STRATA]
    sample = programs.shared(
        "strata", lambda jit: jit_rarely_run(make_sampled_batch(system, families, STRATA_STATES, entries))
    )
    lessons = sample(key)
    counts = {str(name): count for name, count in stratum_counts(parse_strata(entries), STRATA_STATES).items()}
    return HeldOutStrata(lessons=lessons, counts=counts, confidence=system.barrier.confidence)


def make_held_out_losses(
    system: SystemConfig, settings: SafetySettings
) -> Callable[[BarrierParams, BarrierParams, MeasuredFlights, jax.Array], dict[str, float]]:
    """Function (barrier at the start of a stage, at its end, flights that measured it, root key) -> ``<loss>_before``
    and ``<loss>_after``, unweighted, for the losses that some stage uses.

    The training loss is no substitute: from update to update it varies by about 15 % with the states alone, more than a
    stage changes it when the barrier is already good.
    """
    curriculum = settings.curriculum
    flown_states = make_flown_states(system, curriculum.learning.look_ahead)
    sample_transitions = make_transition_sampler(system, settings, LOSS_STATES)
    families, strata = families_beside(settings.scenes), curriculum.learning.strata
    sampling = curriculum.uses_teacher and not uses_truth(system)
    sample_states = make_sampled_batch(system, families, LOSS_STATES, strata) if sampling else None
    losses = make_minibatch_losses(system, settings)

    @jit_update
    def evaluate(barrier: BarrierParams, flights: Flights, root: jax.Array) -> dict[str, Scalar]:
        flown_key, state_key = jax.random.split(report_key(root, HELD_OUT_LOSSES))
        flown = flown_states(flights.trajectories, flights.scenes)
        sampled = shard_batch(sample_states(state_key)) if sample_states else None
        transitions = sample_transitions(flown, flights, None, flown_key)
        values = losses(barrier, Minibatch(transitions=transitions, sampled=sampled))
        return {name: value for name, value in values.items() if name in curriculum.weights_used}

    def held_out_losses(
        before: BarrierParams, after: BarrierParams, measured: MeasuredFlights, root: jax.Array
    ) -> dict[str, float]:
        flights = Flights(trajectories=measured.flown.trajectories, scenes=measured.scenes)
        both = {"before": before, "after": after}
        found = {when: to_host(evaluate(one, flights, root)) for when, one in both.items()}
        return {f"{name}_{when}": float(value) for when, values in found.items() for name, value in values.items()}

    return held_out_losses
