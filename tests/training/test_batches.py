"""Batches of scenes: even shares of the families, and fresh ones for every key."""

import jax
import numpy as np
import pytest

from drone_cbf.config import ObjectiveConfig, OptimiserConfig, SceneConfig
from drone_cbf.scenes.families import common_slots
from drone_cbf.scenes.slots import Slots, slots_of
from drone_cbf.training.barrier.sampled_states import families_beside
from drone_cbf.training.data.flights import make_batch_sampler, report_key
from drone_cbf.training.settings import DEFAULT_SCENES
from drone_cbf.training.update.optimisers import make_optimiser
from tests.perception.worlds import small_system

SYSTEM = small_system(scene=SceneConfig(obstacles=6, cloud_obstacles=6, ring_obstacles=4))
QUICK = {"xla_backend_optimization_level": 0}
"""Compile fast, run slowly: each sampler runs once or twice."""
FAMILIES = ("fixed_ring", "random_cloud", "forest")


def counts(scenes):
    """How many scenes of each family: a ring has its radius, a forest trunks."""
    shapes = scenes.obstacles.capsules
    trunk = np.asarray(shapes.half_height[:, 0]) > 0.0
    ring = np.all(np.asarray(shapes.radius) == np.float32(SYSTEM.scene.ring_sphere_radius), axis=-1)
    return ring.sum(), (~trunk & ~ring).sum(), trunk.sum()


@pytest.mark.parametrize(
    ("batch", "shares"), [pytest.param(6, (2, 2, 2), marks=pytest.mark.slow), (8, (3, 3, 2)), (2, (1, 1, 0))]
)
def test_the_families_share_a_batch_evenly_and_the_first_take_what_is_left_over(batch, shares):
    sample = jax.jit(make_batch_sampler(SYSTEM, FAMILIES, batch), compiler_options=QUICK)
    scenes = sample(jax.random.key(0), 0.5)
    assert scenes.goal.shape == (batch, 3)
    assert counts(scenes) == shares


def test_one_key_gives_one_batch_and_no_two_scenes_alike():
    sample = jax.jit(make_batch_sampler(SYSTEM, FAMILIES, 6), compiler_options=QUICK)
    first, again, other = (sample(jax.random.key(k), 0.5) for k in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    goals = np.concatenate([first.goal, other.goal])
    assert len(np.unique(goals, axis=0)) == 12
    assert len(np.unique(first.start_velocity, axis=0)) == 6


def test_measurements_never_use_the_key_of_an_update():
    root = jax.random.key(3)
    used = {tuple(np.asarray(jax.random.key_data(jax.random.fold_in(root, step)))) for step in range(1000)}
    measured = {tuple(np.asarray(jax.random.key_data(report_key(root, purpose)))) for purpose in range(20)}
    assert len(measured) == 20 and not used & measured


@pytest.mark.parametrize("steps", [1, 2, 3, 100])
def test_the_optimiser_takes_a_bounded_step_downhill_for_any_number_of_steps(steps):
    config = OptimiserConfig(learning_rate=0.01, weight_decay=0.0)
    optimiser = make_optimiser(config, steps)
    params = np.ones(3, np.float32)
    state = optimiser.init(params)
    sizes = []
    for _ in range(steps):
        change, state = optimiser.update(np.array([1e6, -1e-3, 0.0], np.float32), state, params)
        assert change[0] <= 0.0 <= change[1] and change[2] == 0.0
        sizes.append(float(np.abs(np.asarray(change)).max()))
    # Adam's step on a constant gradient is the learning rate; 1e-3 for its epsilon and the bias correction.
    assert max(sizes) <= config.learning_rate * 1.001
    if steps == 100:
        assert max(sizes) == pytest.approx(config.learning_rate, rel=0.01) and np.argmax(sizes) < 10
        assert sizes[-1] < 2.0 * config.final_fraction * config.learning_rate


def test_families_of_different_shapes_fly_in_one_batch_with_the_slots_of_all():
    families = ("random_cloud", "windows", "mixed")
    scenes = jax.eval_shape(make_batch_sampler(SYSTEM, families, 3), jax.random.key(0), 0.5)
    assert slots_of(scenes.obstacles) == common_slots(families, SYSTEM.scene)
    assert slots_of(scenes.obstacles) == Slots(capsules=60, boxes=40, cylinders=2, ground=1)


def test_a_batch_is_thinned_to_the_density_asked_for_and_at_one_is_as_drawn():
    sample = jax.jit(make_batch_sampler(SYSTEM, FAMILIES, 60), compiler_options=QUICK)
    drawn, dense, thin = (sample(jax.random.key(0), 0.0, density) for density in (None, 1.0, 0.5))
    jax.tree.map(np.testing.assert_array_equal, dense, drawn)
    kept, whole = (np.asarray(scenes.obstacles.capsules.active) for scenes in (thin, drawn))
    assert not np.any(kept & ~whole)
    assert abs(kept.sum() / whole.sum() - 0.5) < 5.0 * 0.5 / np.sqrt(whole.sum())
    np.testing.assert_array_equal(thin.goal, drawn.goal)


def test_every_flight_is_told_its_own_speed_if_speeds_are_drawn():
    told = SYSTEM.model_copy(update={"objective": ObjectiveConfig(max_speed=6.0, slowest_cruise=3.0)})
    scenes, same = (
        jax.jit(make_batch_sampler(system, FAMILIES, 60), compiler_options=QUICK)(jax.random.key(0), 0.0)
        for system in (told, SYSTEM)
    )
    cruise = np.asarray(scenes.cruise)
    assert 3.0 <= cruise.min() < 3.3 and 5.7 < cruise.max() < 6.0 and len(np.unique(cruise)) == 60
    assert same.cruise is None
    jax.tree.map(np.testing.assert_array_equal, scenes.replace(cruise=None), same)


@pytest.mark.parametrize(
    ("flown", "sampled"),
    [(("forest",), DEFAULT_SCENES), (DEFAULT_SCENES, DEFAULT_SCENES), (("forest", "windows"), ("forest", "windows"))],
)
def test_states_are_sampled_where_flights_are_and_as_in_recorded_runs(flown, sampled):
    assert families_beside(flown) == sampled
