"""Random scenes: 500 of every family with every kind of goal."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.config import PhysicsConfig, SceneConfig
from drone_cbf.physics.obstacles import surface_distances
from drone_cbf.scenes.box_flights import SHIFT, SMALLEST_FLIGHT
from drone_cbf.scenes.families import make_scene_sampler
from drone_cbf.scenes.scene import perturb

CONFIG = SceneConfig()
COUNT = 500
QUICK = {"xla_backend_optimization_level": 0}
"""Compile fast, run slowly: each sampler runs once."""
FAMILIES = ("fixed_ring", "random_cloud", "forest")
GOALS = ("trained", "shifted", "random")
ROUNDING = 1e-4
"""[m]: float32 at coordinates of up to 30 m, turned."""

everywhere = pytest.mark.parametrize(("family", "goals"), [(f, g) for f in FAMILIES for g in GOALS])
nearest = jax.jit(jax.vmap(lambda scene, x: jnp.min(surface_distances(scene.obstacles, x))))


@functools.cache
def drawn(family, goals):
    keys = jax.random.split(jax.random.key(7), COUNT)
    return jax.jit(jax.vmap(make_scene_sampler(family, goals, CONFIG)), compiler_options=QUICK)(keys)


def pairwise_gaps(scene, index) -> np.ndarray:
    """Surface distance between every two active trunks of one scene, seen from above."""
    active = np.asarray(scene.obstacles.capsules.active[index])
    centre = np.asarray(scene.obstacles.capsules.centre[index], np.float64)[active, :2]
    radius = np.asarray(scene.obstacles.capsules.radius[index], np.float64)[active]
    gaps = np.linalg.norm(centre[:, None] - centre, axis=-1) - radius[:, None] - radius
    return gaps[np.triu_indices(len(radius), 1)]


@everywhere
def test_start_and_goal_keep_clear_of_every_obstacle(family, goals):
    scenes = drawn(family, goals)
    assert np.asarray(nearest(scenes, scenes.start)).min() >= CONFIG.clearance
    assert np.asarray(nearest(scenes, scenes.goal)).min() >= CONFIG.clearance


@everywhere
def test_a_flight_has_some_length_and_obstacles_to_meet(family, goals):
    scenes = drawn(family, goals)
    assert np.linalg.norm(np.asarray(scenes.goal - scenes.start), axis=-1).min() > SMALLEST_FLIGHT
    # Clearing start and goal may not empty the scene: nearly all of what the family has stays.
    wanted = {"fixed_ring": CONFIG.ring_obstacles, "random_cloud": CONFIG.cloud_obstacles, "forest": 4}[family]
    kept = np.asarray(scenes.obstacles.capsules.active).sum(1)
    assert kept.mean() > 0.9 * wanted and kept.max() <= CONFIG.obstacles


@everywhere
def test_everything_is_finite_and_no_two_scenes_are_alike(family, goals):
    scenes = drawn(family, goals)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(scenes))
    assert len(np.unique(np.asarray(scenes.start), axis=0)) == COUNT
    goal_count = len(np.unique(np.asarray(scenes.goal), axis=0))
    assert goal_count == COUNT if goals == "random" else goal_count == 1


def test_all_scenes_are_of_one_type_so_that_one_compiled_program_flies_them():
    kinds = {
        str([(x.shape[1:], x.dtype, x.weak_type) for x in jax.tree.leaves(drawn(family, goals))])
        for family in FAMILIES
        for goals in GOALS
    }
    assert len(kinds) == 1 and "True" not in kinds.pop()


def test_the_shifted_goal_is_the_trained_one_displaced():
    for family in ("fixed_ring", "random_cloud"):
        shift = drawn(family, "shifted").goal[0] - drawn(family, "trained").goal[0]
        np.testing.assert_allclose(shift, SHIFT, atol=ROUNDING)
    assert np.linalg.norm(drawn("forest", "shifted").goal[0] - drawn("forest", "trained").goal[0]) > 1.0


def test_the_ring_is_a_ring_and_the_cloud_stays_in_its_box():
    ring = drawn("fixed_ring", "random").obstacles
    first = np.asarray(ring.capsules.centre)[0][: CONFIG.ring_obstacles]
    np.testing.assert_allclose(np.linalg.norm(first[:, :2], axis=-1), CONFIG.ring_radius, atol=ROUNDING)
    np.testing.assert_allclose(first[:, 2], 0.0, atol=ROUNDING)
    np.testing.assert_allclose(
        np.linalg.norm(first - np.roll(first, 1, axis=0), axis=-1),
        2.0 * CONFIG.ring_radius * np.sin(np.pi / CONFIG.ring_obstacles),
        atol=ROUNDING,
    )
    cloud = drawn("random_cloud", "random").obstacles
    assert np.all(np.abs(np.asarray(cloud.capsules.centre)) <= CONFIG.cloud_half_extent)
    radius = np.asarray(cloud.capsules.radius)
    assert radius.min() >= CONFIG.cloud_radius[0] and radius.max() <= CONFIG.cloud_radius[1]


@pytest.mark.parametrize("goals", GOALS)
def test_every_gap_of_the_forest_can_be_passed(goals):
    scenes = drawn("forest", goals)
    promised = CONFIG.forest_spacing - 2.0 * (CONFIG.forest_jitter + CONFIG.forest_radius[1])
    assert promised > 2.0 * PhysicsConfig().drone_radius, "the defaults leave no room for the drone"
    assert min(pairwise_gaps(scenes, index).min() for index in range(0, COUNT, 5)) >= promised - ROUNDING


def test_the_tightest_forest_that_is_accepted_has_all_its_trees_apart_and_off_both_ends():
    """As many columns as slots, and trees displaced as far as they may be."""
    config = SceneConfig(obstacles=6, cloud_obstacles=6, ring_obstacles=6, forest_jitter=1.1, clearance=0.99)
    sampler = make_scene_sampler("forest", "shifted", config)
    scenes = jax.jit(jax.vmap(sampler), compiler_options=QUICK)(jax.random.split(jax.random.key(8), COUNT))
    assert np.all(scenes.obstacles.capsules.active), "a tree too near to start or goal would have been cleared away"
    assert min(pairwise_gaps(scenes, index).min() for index in range(COUNT)) >= -ROUNDING
    along, radius = np.asarray(scenes.obstacles.capsules.centre)[..., 0], np.asarray(scenes.obstacles.capsules.radius)
    assert (along - radius).min() >= 1.0 - ROUNDING and (along + radius).max() <= config.forest_length - 1.0 + ROUNDING
    assert np.diff(along, axis=1).min() > 0.0 and along[:, -1].min() > config.forest_length - 4.0, "no stretch is empty"


@pytest.mark.parametrize("goals", GOALS)
def test_a_forest_is_crossed_from_end_to_end(goals):
    scenes = drawn("forest", goals)
    start, goal = np.asarray(scenes.start), np.asarray(scenes.goal)
    crossing = np.linalg.norm((goal - start)[:, :2], axis=-1)
    assert crossing.min() >= CONFIG.forest_length - ROUNDING
    half_height = np.asarray(scenes.obstacles.capsules.half_height)
    assert half_height.min() > 10.0 * np.abs(start[:, 2]).max(), "there must be no way over the trees"


def test_random_forests_are_crossed_in_every_direction_and_in_wind():
    scenes = drawn("forest", "random")
    way = np.asarray(scenes.goal - scenes.start)
    heading = np.arctan2(way[:, 1], way[:, 0])
    assert np.histogram(heading, bins=8, range=(-np.pi, np.pi))[0].min() > COUNT / 16
    spread = CONFIG.forest_wind * np.array([1.0, 1.0, 0.2])
    np.testing.assert_allclose(np.asarray(scenes.wind).std(0), spread, rtol=5.0 / np.sqrt(2 * COUNT))
    np.testing.assert_allclose(scenes.gust[0], CONFIG.gust * spread, rtol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_key_gives_the_same_scene(family):
    sampler = make_scene_sampler(family, "random", CONFIG)
    again = jax.jit(jax.vmap(sampler), compiler_options=QUICK)(jax.random.split(jax.random.key(7), COUNT))
    jax.tree.map(np.testing.assert_array_equal, again, drawn(family, "random"))


@pytest.fixture(scope="module")
def perturbed():
    def one(scene, amount, key):
        return perturb(scene, amount, CONFIG.clearance, key, moving=False)

    move = jax.jit(jax.vmap(one, in_axes=(0, None, 0)), compiler_options=QUICK)
    keys = jax.random.split(jax.random.key(1), COUNT)
    return lambda family, amount: move(drawn(family, "random"), jnp.float32(amount), keys)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("amount", [0.3, 1.0])
def test_a_perturbed_scene_keeps_clear_and_moves_as_much_as_asked(family, amount, perturbed):
    before, after = drawn(family, "random"), perturbed(family, amount)
    assert np.asarray(nearest(after, after.start)).min() >= CONFIG.clearance
    assert np.asarray(nearest(after, after.goal)).min() >= CONFIG.clearance
    shift = np.abs(np.asarray(after.obstacles.capsules.centre - before.obstacles.capsules.centre))
    assert shift.max() <= 0.5 * amount + ROUNDING and shift.max() > 0.45 * amount
    velocity = np.asarray(after.start_velocity)
    np.testing.assert_allclose(velocity.std(), amount, rtol=5.0 / np.sqrt(2 * 3 * COUNT))
    np.testing.assert_array_equal(after.start, before.start)
    np.testing.assert_array_equal(after.goal, before.goal)


def test_perturbing_by_nothing_changes_nothing(perturbed):
    jax.tree.map(np.testing.assert_array_equal, perturbed("random_cloud", 0.0), drawn("random_cloud", "random"))
