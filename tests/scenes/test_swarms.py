"""What every family of swarms promises, and the distribution of GCBF+."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.config import SceneConfig
from drone_cbf.physics.obstacles import surface_distances
from drone_cbf.scenes.families import SWARMS, common_slots, drones_in, make_scene_sampler
from drone_cbf.scenes.gcbf import apart
from drone_cbf.scenes.scene import cleared, per_drone, perturb, scene_count
from drone_cbf.scenes.slots import slots_of
from tests.perception.worlds import capsules

QUICK = {"xla_backend_optimization_level": 0}
DRONES, COUNT = 12, 20
CONFIG = SceneConfig(drones=DRONES, clearance=0.05)
every_swarm = pytest.mark.parametrize("family", SWARMS)


@functools.cache
def drawn(family):
    sample = jax.jit(jax.vmap(make_scene_sampler(family, "random", CONFIG)), compiler_options=QUICK)
    return sample(jax.random.split(jax.random.key(3), COUNT))


near_all = jax.jit(jax.vmap(jax.vmap(surface_distances, in_axes=(None, 0))), compiler_options=QUICK)
"""Obstacles and places of several scenes -> distances (scenes, places, obstacles)."""


@pytest.fixture(scope="module", params=SWARMS)
def scenes(request):
    return drawn(request.param)


def test_each_drone_has_its_own_start_and_goal_and_rests(scenes):
    for ends in (scenes.start, scenes.goal):
        assert ends.shape == (COUNT, DRONES, 3) and np.all(np.isfinite(ends))
        assert len(np.unique(np.asarray(ends).reshape(-1, 3), axis=0)) == COUNT * DRONES
    assert not np.any(scenes.start_velocity)


@every_swarm
def test_scenes_have_the_declared_slots(family):
    made = jax.eval_shape(make_scene_sampler(family, "trained", CONFIG), jax.random.key(0))
    assert slots_of(made.obstacles) == common_slots([family], CONFIG)
    assert drones_in(family, CONFIG) == DRONES and drones_in("forest", CONFIG) == 1


def test_starts_and_goals_are_apart_from_each_other_and_from_obstacles(scenes):
    for ends in (scenes.start, scenes.goal):
        between = np.linalg.norm(np.asarray(ends)[:, :, None] - np.asarray(ends)[:, None], axis=-1)
        between[:, np.arange(DRONES), np.arange(DRONES)] = np.inf
        assert between.min() > CONFIG.gcbf_apart - 1e-6  # the same as swarm_spacing
        near = np.asarray(near_all(scenes.obstacles, ends))
        assert near.shape[:2] == (COUNT, DRONES) and near.min(initial=np.inf) > CONFIG.gcbf_apart - 1e-5


def test_the_worlds_of_gcbf_keep_all_their_obstacles():
    for family, count in (("gcbf_linear", 8), ("gcbf_double_integrator", 8), ("gcbf_crazyflie", 0)):
        assert np.all(drawn(family).obstacles.active.sum(axis=1) == count)


def test_rectangles_of_gcbf_are_upright_and_ends_at_one_height():
    scenes = drawn("gcbf_double_integrator")
    scenes = jax.device_get(scenes)
    boxes = scenes.obstacles.boxes
    np.testing.assert_array_equal(boxes.rotation[..., 2], np.broadcast_to([0.0, 0.0, 1.0], boxes.centre.shape))
    sides = 2.0 * np.asarray(boxes.half_size)[..., :2]
    assert 0.1 <= sides.min() < 0.12 and 0.48 < sides.max() <= 0.5
    assert not np.any(scenes.start[..., 2]) and not np.any(scenes.goal[..., 2])
    assert np.asarray(scenes.goal)[..., :2].max() > 3.9


@pytest.mark.parametrize("shape", ["circle", "sphere"])
def test_drones_of_a_ring_change_places_with_those_opposite(shape):
    config = SceneConfig(drones=DRONES, ring_swap_shape=shape)
    sample = jax.jit(jax.vmap(make_scene_sampler("ring_swap", "random", config)), compiler_options=QUICK)
    scenes = sample(jax.random.split(jax.random.key(5), 4))
    np.testing.assert_allclose(scenes.goal, -np.asarray(scenes.start), atol=1e-6)
    distance = np.linalg.norm(scenes.start, axis=-1)
    assert distance.max() - distance.min() < 0.25
    assert (np.abs(np.asarray(scenes.start)[..., 2]).max() > 0.3) == (shape == "sphere")


@pytest.mark.parametrize("drones", [1, 7, 12])
def test_each_group_of_a_tunnel_goes_where_the_other_comes_from(drones):
    config = SceneConfig(drones=drones, tunnel_length=2.0)
    scene = jax.jit(make_scene_sampler("tunnel", "random", config), compiler_options=QUICK)(jax.random.key(6))
    start, goal = np.asarray(scene.start), np.asarray(scene.goal)
    assert np.all(np.abs(start[:, 0]) > 1.2) and np.all(start[:, 0] * goal[:, 0] < 0.0)
    assert np.sum(start[:, 0] < 0.0) == (drones + 1) // 2
    inside = jnp.asarray([[x, 0.25, -0.25] for x in (-0.9, 0.0, 0.9)], jnp.float32)
    clear = jax.jit(jax.vmap(lambda place: surface_distances(scene.obstacles, place)))(inside)
    np.testing.assert_allclose(np.min(clear, axis=1), 0.05, atol=1e-5)


def test_a_formation_keeps_its_shape_and_meets_spheres():
    scenes = drawn("formation")
    moved = np.asarray(scenes.goal) - np.asarray(scenes.start)
    np.testing.assert_allclose(moved, np.broadcast_to(moved[0, 0], moved.shape), atol=1e-5)
    assert moved[0, 0, 0] > CONFIG.formation_length and not moved[0, 0, 1:].any()
    assert scenes.obstacles.active.sum() > COUNT


def test_spheres_and_ends_fill_the_cube_of_gcbf_evenly():
    sample = jax.jit(jax.vmap(make_scene_sampler("gcbf_linear", "random", CONFIG)), compiler_options=QUICK)
    many = sample(jax.random.split(jax.random.key(4), 400))
    centre, radius = np.asarray(many.obstacles.capsules.centre), np.asarray(many.obstacles.capsules.radius)
    for values, low, high in ((centre, 0.0, 2.0), (radius, 0.075, 0.15), (np.asarray(many.goal), 0.0, 2.0)):
        assert low <= values.min() and values.max() <= high
        assert values.mean() == pytest.approx(0.5 * (low + high), abs=0.02 * (high - low))


def test_where_no_place_is_free_the_freest_is_taken():
    ball = capsules([[0.0, 0.0, 0.0]], 1.0)
    tried = jnp.asarray([[[1.05, 0.0, 0.0], [1.1, 0.0, 0.0], [0.5, 0.0, 0.0]]], jnp.float32)
    for gap, taken in ((0.2, 1.1), (0.08, 1.1), (0.01, 1.05)):
        found = jax.jit(lambda gap=gap: apart(tried, ball, gap))()
        np.testing.assert_allclose(found, [[taken, 0.0, 0.0]], atol=1e-6)


def test_obstacles_near_the_start_or_goal_of_any_drone_are_removed():
    scene = jax.tree.map(lambda leaf: np.asarray(leaf)[0], drawn("gcbf_linear"))
    ball, goal = scene.obstacles.capsules, scene.goal.copy()
    goal[5] = ball.centre[2] + np.array([0.0, 0.0, ball.radius[2] + 0.03], np.float32)
    moved = jax.tree.map(jnp.asarray, scene.replace(goal=goal))
    left = jax.jit(lambda scene: cleared(scene, 0.05))(moved)
    assert np.array_equal(np.flatnonzero(~np.asarray(left.obstacles.active)), [2])
    change = jax.jit(lambda scene, key: perturb(scene, jnp.float32(0.1), 0.05, key, moving=False))
    after = change(jax.tree.map(jnp.asarray, scene), jax.random.key(0))
    assert after.start_velocity.shape == (DRONES, 3)
    assert len(np.unique(np.asarray(after.start_velocity), axis=0)) == DRONES


def test_flights_are_shared_among_scenes():
    assert [scene_count(flights, 8) for flights in (64, 70, 3)] == [8, 8, 1]


def test_per_drone_repeats_what_is_common():
    scenes = drawn("gcbf_linear")
    flat, scenes = jax.device_get((jax.jit(per_drone)(scenes), scenes))
    assert np.array_equal(flat.start[DRONES + 3], scenes.start[1, 3])
    assert np.array_equal(flat.obstacles.capsules.centre[DRONES + 3], scenes.obstacles.capsules.centre[1])
