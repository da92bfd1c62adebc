"""Losses of the barrier before and after a stage, on the same states: against another reading, and as a stage asks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.barrier.lessons import make_graph_lesson
from drone_cbf.controller import ControllerParams, make_unfiltered_pilot
from drone_cbf.flights import make_flyer
from drone_cbf.training.barrier import validation
from drone_cbf.training.barrier.losses import FOCUS
from drone_cbf.training.barrier.validation import make_comparer
from drone_cbf.training.curriculum.schema import Curriculum, Stage
from drone_cbf.training.data.flights import make_flight_measure
from drone_cbf.training.settings import SafetySettings
from tests.perception.worlds import few_obstacles, random_barrier, random_policy, small_system
from tests.training.scripted_training import always_good, column, stage, train, until
from tests.training.simple_flights import resting

SYSTEM = small_system(scene=few_obstacles(4))
FLIGHTS, HORIZON = 8, 8
LOSSES = ("cbf_value", "cbf_gradient")
"""Those that have a weight by default."""


@functools.cache
def measured():
    """Flights without a filter: the barrier plays no part in where they lead."""
    fly = make_flyer(SYSTEM, make_unfiltered_pilot(SYSTEM), HORIZON)
    measure = make_flight_measure(SYSTEM, fly, ("random_cloud",), FLIGHTS)
    zero = jnp.float32(0.0)
    params = ControllerParams(policy=random_policy(SYSTEM), barrier=None, margin=zero, blend=zero)
    return measure(params, 0.02, 0.0, jax.random.key(5))


def many_resting(system, families, count, strata):
    return lambda key: jax.tree.map(lambda leaf: jnp.repeat(leaf, count, axis=0), resting(system, families, 1)(key))


@pytest.fixture(scope="module")
def losses():
    curriculum = Curriculum(name="tiny", stages=(Stage(name="only", steps=2, horizon=HORIZON),))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "make_sampled_batch", many_resting)
        patch.setattr(validation, "LOSS_STATES", 16_384)  # draws of 64 states: a mean over all to a few percent
        compute = validation.make_held_out_losses(SYSTEM, SafetySettings(curriculum=curriculum))
        yield lambda before, after: compute(before, after, measured(), jax.random.key(0))


@pytest.mark.slow
def test_every_weighted_loss_is_reported_for_both_barriers_on_the_same_states(losses):
    one, other = random_barrier(SYSTEM, 0), random_barrier(SYSTEM, 1)
    found, swapped, same = losses(one, other), losses(other, one), losses(one, one)
    assert set(found) == {f"{name}_{when}" for name in LOSSES for when in ("before", "after")}
    for name in LOSSES:
        assert found[f"{name}_before"] == swapped[f"{name}_after"] == same[f"{name}_before"] == same[f"{name}_after"]
    assert found["cbf_value_before"] != found["cbf_value_after"]


@pytest.mark.slow
def test_the_loss_is_that_of_all_states_flown_and_as_many_sampled(losses):
    """By the comparison that calibrates, over every state flown, in float64."""
    barrier = random_barrier(SYSTEM)
    graphs = jax.tree.map(lambda x: jnp.asarray(x.reshape(-1, *x.shape[2:])), measured().flown.trajectories.graphs)
    ends = []
    flown = jax.jit(jax.vmap(make_graph_lesson(SYSTEM)))(graphs)
    for taught in (flown, resting(SYSTEM, (), 1)(None)):
        found = make_comparer(SYSTEM)(barrier, taught)
        analytic, neural = np.asarray(found.analytic, np.float64), np.asarray(found.neural, np.float64)
        weight = 1.0 / (1.0 + (analytic / FOCUS) ** 2)
        ends.append(((weight * (neural - analytic) ** 2).mean(), weight.mean()))
    expected = sum(value for value, _ in ends) / sum(weight for _, weight in ends)
    assert losses(barrier, barrier)["cbf_value_after"] == pytest.approx(expected, rel=0.05)


def test_a_stage_compares_its_first_with_its_last_barrier_also_when_resumed():
    stages = stage("first", steps=3), stage("second", steps=2)
    run = train(always_good, *stages, every=0)
    told = [(2, 0.0), (4, 3.0)], [(2, 3.0), (4, 5.0)]
    assert (column(run, "held_out/cbf_value_before"), column(run, "held_out/cbf_value_after")) == told
    resumed = train(always_good, *stages, every=0, saved=run.recorder.states[4])
    assert column(resumed, "held_out/cbf_value_before") == [(4, 3.0)]


def test_after_a_roll_back_the_comparison_is_still_to_the_start_of_the_stage():
    run = train(until(4.0), stage("first", steps=3), stage("second", steps=6), patience=0, rate_backoff=0.125)
    assert column(run, "monitor/rollbacks")
    assert column(run, "held_out/cbf_value_before") == [(2, 0.0), (column(run, "held_out/cbf_value_after")[-1][0], 3.0)]
