"""Several drones in one scan: what each perceives, that they fly as one would alone, and that pairs keep apart."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf import controller, flights
from drone_cbf.config import BarrierConfig, FilterConfig
from drone_cbf.controller import ControllerParams, make_filtered_pilot, make_unfiltered_pilot
from drone_cbf.flights import fly_all, make_flyer
from drone_cbf.objectives.clearance import approach, swept_clearances
from drone_cbf.rollout import flights_of_swarms, make_rollout
from drone_cbf.scenes.scene import per_drone
from tests.perception.worlds import random_barrier, random_policy
from tests.swarms import swarm_scene, swarm_system

QUICK = {"xla_backend_optimization_level": 0}
BARRIER = BarrierConfig(features=8, base="braking", safety_margin=0.02, reaction_time=0.06, temperature=0.005)
SYSTEM = swarm_system(3, barrier=BARRIER)
STEPS = 12
ROUNDING = 2e-5
"""[m], [m/s]: the same arithmetic, fused differently."""
QUIET = jnp.float32(0.0)


def params_of(system, blend=0.0):
    return ControllerParams(
        policy=random_policy(system), barrier=random_barrier(system), margin=jnp.float32(0.0), blend=jnp.float32(blend)
    )


PARAMS = params_of(SYSTEM)
FLY = jax.jit(make_rollout(SYSTEM, make_filtered_pilot(SYSTEM), STEPS), compiler_options=QUICK)
STARTS = np.array([[0.0, 0.0, 0.0], [0.6, 0.1, 0.0], [0.3, -0.4, 0.2]])
GOALS = np.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [0.3, 1.0, 0.0]])


def assert_close(ours, other):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=ROUNDING, rtol=1e-4), ours, other)


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_a_swarm_of_one_flies_as_a_drone_alone(noise):
    scene, key, level = swarm_scene(STARTS[:1], GOALS[:1]), jax.random.key(3), jnp.float32(noise)
    alone = jax.tree.map(lambda x: x, scene).replace(
        start=scene.start[0], start_velocity=scene.start_velocity[0], goal=scene.goal[0]
    )
    swarm = jax.tree.map(lambda leaf: leaf[0], FLY(PARAMS, scene, level, key))
    single = FLY(PARAMS, alone, level, jax.random.split(key, 1)[0])
    assert single.others is None
    assert_close(
        (swarm.states, swarm.last, swarm.decisions.command), (single.states, single.last, single.decisions.command)
    )
    assert np.all(np.asarray(swarm.others.gap) > 100.0)  # nobody is there


def test_the_order_of_the_drones_does_not_matter():
    order = np.array([2, 0, 1])
    flown = FLY(PARAMS, swarm_scene(STARTS, GOALS), QUIET, jax.random.key(0))
    again = FLY(PARAMS, swarm_scene(STARTS[order], GOALS[order]), QUIET, jax.random.key(0))
    assert_close(
        jax.tree.map(lambda leaf: leaf[order], (flown.states, flown.others.gap)), (again.states, again.others.gap)
    )


@pytest.mark.parametrize(("away", "noticed"), [(0.9, True), (1.2, False)])
def test_another_drone_is_noticed_within_the_sensing_radius_only(away, noticed):
    def command(place):
        starts = [[0.0, 0.0, 0.0], [0.0, 0.0, 8.0], place]
        return np.asarray(FLY(PARAMS, swarm_scene(starts, GOALS), QUIET, jax.random.key(0)).decisions.command[0, 0])

    assert np.array_equal(command([away, 0.0, 0.0]), command([9.0, 0.0, 0.0])) != noticed


def test_others_are_perceived_with_errors_of_the_given_size():
    scene, level = swarm_scene(STARTS, STARTS), 0.02
    flown = [FLY(PARAMS, scene, jnp.float32(level), jax.random.key(seed)).graphs for seed in range(60)]
    off = np.stack([np.asarray(graph.relative_velocity[:, 0, -2:]) for graph in flown])
    # Before the first step all are at rest; one's own velocity and the other's are read with independent errors.
    assert off.std() == pytest.approx(level * np.sqrt(2.0), rel=0.1)
    assert not np.array_equal(off[:, 0, 0], -off[:, 1, 0])  # two drones err independently about each other


def test_flights_of_swarms_are_listed_scene_by_scene():
    scenes = [swarm_scene(STARTS, GOALS), swarm_scene(STARTS + 5.0, GOALS + 5.0)]
    flown = [FLY(PARAMS, scene, QUIET, jax.random.key(0)) for scene in scenes]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *scenes)
    single, alone = flights_of_swarms(jax.tree.map(lambda *leaves: jnp.stack(leaves), *flown), stacked)
    np.testing.assert_array_equal(single.states.position[:, 0], alone.start)
    np.testing.assert_array_equal(alone.goal[4], GOALS[1].astype(np.float32) + 5.0)
    assert alone.obstacles.active.shape == (6, 2)
    assert per_drone(alone) is alone


def test_flights_in_chunks_are_measured_in_the_order_of_their_scenes():
    fly = make_flyer(SYSTEM, make_unfiltered_pilot(SYSTEM), STEPS)
    moves = (0.0, 5.0, 10.0)
    scenes = jax.tree.map(lambda *rows: jnp.stack(rows), *(swarm_scene(STARTS + x, GOALS + x) for x in moves))
    keys = jax.random.split(jax.random.key(0), 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flights, "SWARM_CHUNK", 6)  # two scenes, and then the last one twice
        patch.setattr(flights, "MEASURED_AT_ONCE", 4)
        flown = fly_all(fly, PARAMS, scenes, jnp.zeros(3), keys, lambda flown: flown)
    starts = np.concatenate([STARTS + x for x in moves])
    np.testing.assert_allclose(flown.trajectories.states.position[:, 0], starts, atol=ROUNDING)
    ends = flown.trajectories.last.position - np.concatenate([GOALS + x for x in moves])
    final = np.linalg.norm(ends, axis=-1)
    assert np.all(flown.metrics.final_distance >= final - ROUNDING)
    np.testing.assert_array_equal(flown.metrics.smallest_clearance, flown.clearance.min(-1))
    np.testing.assert_allclose(flown.clearance.min(-1)[3:6], flown.clearance.min(-1)[6:], atol=1e-4)


def test_clearance_counts_other_drones():
    scene = swarm_scene(STARTS, GOALS)
    flown = FLY(PARAMS, scene, QUIET, jax.random.key(0))
    one = jax.tree.map(lambda leaf: leaf[0], flown)
    mine = scene.replace(start=scene.start[0], start_velocity=scene.start_velocity[0], goal=scene.goal[0])
    clearance = np.asarray(swept_clearances(one, mine, SYSTEM.physics))
    position = np.asarray(flown.states.position, np.float64)
    sampled = np.linalg.norm(position[0] - position[1:], axis=-1).min(0) - 2.0 * SYSTEM.physics.drone_radius
    assert np.all(clearance[:, -1] <= sampled + ROUNDING)
    assert np.all(clearance[:, -1] >= sampled - 2.0 * 0.87 * SYSTEM.physics.time_step)
    near = np.asarray(approach(one, mine, SYSTEM.physics).clearance)[:, 2:].min(-1)
    np.testing.assert_allclose(near, sampled, atol=ROUNDING)


@pytest.mark.parametrize(
    ("rows", "model"),
    [
        ("pairwise", "linear"),
        pytest.param("pairwise", "double_integrator", marks=pytest.mark.slow),
        pytest.param("soft_min", "linear", marks=pytest.mark.slow),
    ],
)
def test_two_that_fly_at_each_other_at_full_speed_stop_in_time(rows, model):
    physics = SYSTEM.physics.model_copy(update={"model": model})
    system = swarm_system(2, barrier=BARRIER, filter=FilterConfig(rows=rows), physics=physics)
    climb = 0.0 if model == "linear" else 3.0  # What flies in the plane is not got out of it

    def headlong(params, memory, graph):
        return memory, jnp.where(graph.goal > 0.0, 8.0, -8.0) * jnp.array([1.0, 0.0, climb])

    pilot = make_filtered_pilot_of(system, headlong)
    scene = swarm_scene([[-0.8, 0.0, 0.0], [0.8, 0.0, 0.0]], [[50.0, 0.0, 0.0], [-50.0, 0.0, 0.0]])
    fly = jax.jit(make_rollout(system, pilot, 80), compiler_options=QUICK)
    flown = fly(params_of(system), scene, QUIET, jax.random.key(0))
    assert np.abs(np.asarray(flown.states.velocity)).max() == pytest.approx(0.5)
    gap = np.asarray(flown.others.gap)
    assert BARRIER.safety_margin < gap.min() < 3.0 * BARRIER.safety_margin  # they do meet
    assert np.abs(np.asarray(flown.decisions.slack)).max() < 1e-3
    assert not np.any(flown.states.position[..., 2]) and not np.any(flown.decisions.command[..., 2])


def make_filtered_pilot_of(system, apply):
    """The filtered pilot of a policy written by hand."""
    with pytest.MonkeyPatch.context() as patch:
        original = controller.make_policy
        patch.setattr(controller, "make_policy", lambda system: dataclasses.replace(original(system), apply=apply))
        return make_filtered_pilot(system)
