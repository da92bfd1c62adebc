"""The graph: who gets a place, whose weight is zero, and that nothing jumps while flying past."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.barrier.analytic import make_braking_barrier, make_distance_barrier
from drone_cbf.barrier.neural import make_neural_barrier
from drone_cbf.config import SensorConfig
from drone_cbf.perception.graphs import (
    CLOSING_SHARPNESS,
    SWAP_WIDTH,
    build_graph,
    edge_features,
    empty_graph,
    graph_at,
    node_weights,
    smallest_first,
)
from drone_cbf.perception.sensors import Surfaces
from drone_cbf.physics.drone import nominal_params
from drone_cbf.physics.motion import Motion
from drone_cbf.physics.obstacles import FAR, swept_distances
from drone_cbf.policy.goal_conditioned import make_policy
from tests.perception.worlds import crowd, graph_seen, random_barrier, random_policy, small_system

SYSTEM = small_system(sensor=SensorConfig(neighbours=5))
STATES, SLOTS = 200, 14
ROUNDING = 2e-5
"""[m]: float32 at distances of up to 10 m, and closing speeds of up to 10 m/s over the lookahead."""


def random_readings(seed=0):
    """Motions among surface points, about a third of them not visible, as float64 arrays."""
    rng = np.random.default_rng(seed)
    return {
        "position": rng.normal(size=(STATES, 3)),
        "velocity": 3.0 * rng.normal(size=(STATES, 3)),
        "points": 4.0 * rng.normal(size=(STATES, SLOTS, 3)),
        "moving": rng.normal(size=(STATES, SLOTS, 3)),
        "visible": rng.uniform(size=(STATES, SLOTS)) < 0.66,
    }


def build(config, readings, physics=SYSTEM.physics, builder=build_graph):
    arrays = {name: jnp.asarray(value, bool if name == "visible" else jnp.float32) for name, value in readings.items()}

    def one(position, velocity, points, moving, visible):
        motion = Motion(position=position, velocity=velocity, thrust=jnp.zeros(3))
        surfaces = Surfaces(points=points, velocity=moving, visible=visible)
        return builder(motion, surfaces, jnp.array([1.0, 2.0, 3.0]), nominal_params(physics), config)

    return jax.jit(lambda a: jax.vmap(lambda x: one(**x))(a))(arrays)


def true_distances_ahead(readings, lookahead):
    """(states, slots) in float64; infinite where not visible."""
    offset = readings["position"][:, None] - readings["points"]
    distance = np.linalg.norm(offset, axis=-1)
    approach = -np.sum(offset * (readings["velocity"][:, None] - readings["moving"]), -1) / distance
    closing = np.logaddexp(0.0, CLOSING_SHARPNESS * approach) / CLOSING_SHARPNESS
    return np.where(readings["visible"], distance - lookahead * closing, np.inf)


@pytest.fixture(scope="module", params=[0.0, 0.6])
def seen(request):
    config = SYSTEM.sensor.model_copy(update={"lookahead": request.param})
    readings = random_readings()
    return readings, true_distances_ahead(readings, request.param), build(config, readings)


@pytest.mark.parametrize("count", [1, 5, SLOTS])
def test_the_smallest_come_first_as_a_stable_sort_has_them(count):
    """Drawn from seven numbers, so that most are there several times."""
    values = np.random.default_rng(0).integers(-3, 4, (STATES, SLOTS)).astype(np.float32)
    found = jax.jit(jax.vmap(lambda row: smallest_first(row, count)))(values)
    np.testing.assert_array_equal(found, np.argsort(values, axis=-1, kind="stable")[:, :count])


def test_the_places_go_to_the_visible_points_that_will_be_nearest(seen):
    readings, ahead, graphs = seen
    count = SYSTEM.sensor.neighbours
    order = np.argsort(ahead, axis=-1)
    for index in range(STATES):
        expected = [slot for slot in order[index, :count] if readings["visible"][index, slot]]
        offset = readings["position"][index] - readings["points"][index, expected]
        relative = readings["velocity"][index] - readings["moving"][index, expected]
        mask = np.asarray(graphs.mask[index])
        assert mask.sum() == len(expected)
        np.testing.assert_allclose(graphs.relative_position[index][mask], offset, atol=ROUNDING)
        np.testing.assert_allclose(graphs.relative_velocity[index][mask], relative, atol=ROUNDING)


def test_left_out_is_the_distance_ahead_of_the_first_point_without_a_place(seen):
    _, ahead, graphs = seen
    first = np.sort(ahead, axis=-1)[:, SYSTEM.sensor.neighbours]
    shown = np.isfinite(first)
    assert shown.any() and not shown.all()
    np.testing.assert_allclose(graphs.left_out[shown], first[shown], atol=ROUNDING)
    assert np.all(np.asarray(graphs.left_out)[~shown] > FAR - 10.0)


def test_with_a_place_for_everyone_nobody_is_left_out():
    config = SYSTEM.sensor.model_copy(update={"neighbours": SLOTS + 3})
    readings = random_readings()
    graphs = build(config, readings)
    assert graphs.mask.shape == (STATES, SLOTS)
    np.testing.assert_array_equal(graphs.mask.sum(-1), readings["visible"].sum(-1))
    assert np.all(np.asarray(graphs.left_out) == FAR)


def test_what_is_not_visible_changes_nothing():
    readings = random_readings()
    hidden = ~readings["visible"][..., None]
    other = dict(readings)
    other["points"] = np.where(hidden, readings["position"][:, None] + 0.01, readings["points"])
    other["moving"] = np.where(hidden, 100.0, readings["moving"])
    config = SYSTEM.sensor
    jax.tree.map(np.testing.assert_array_equal, build(config, readings), build(config, other))


def test_the_graph_has_no_origin():
    readings = random_readings()
    moved = dict(readings)
    shift = np.array([4.0, -8.0, 2.0])
    moved["position"], moved["points"] = readings["position"] + shift, readings["points"] + shift
    here, there = build(SYSTEM.sensor, readings), build(SYSTEM.sensor, moved)
    np.testing.assert_allclose(here.relative_position, there.relative_position, atol=ROUNDING)
    np.testing.assert_array_equal(here.mask, there.mask)


def test_moving_points_are_taken_where_they_will_be_after_the_delay():
    physics = SYSTEM.physics.model_copy(update={"delay": 0.15})
    readings = random_readings()
    later = dict(readings)
    later["points"] = readings["points"] + 0.15 * readings["moving"]
    moved, expected = build(SYSTEM.sensor, readings, physics, graph_at), build(SYSTEM.sensor, later, physics)
    np.testing.assert_allclose(moved.relative_position, expected.relative_position, atol=ROUNDING)


def test_goal_velocity_and_drag_are_those_of_the_drone():
    readings = random_readings()
    graphs = build(SYSTEM.sensor, readings)
    physics, velocity = SYSTEM.physics, readings["velocity"]
    drag = -(physics.linear_drag + physics.quadratic_drag * np.linalg.norm(velocity, axis=-1, keepdims=True)) * velocity
    np.testing.assert_allclose(graphs.goal, np.array([1.0, 2.0, 3.0]) - readings["position"], atol=ROUNDING)
    np.testing.assert_allclose(graphs.velocity, velocity, atol=ROUNDING)
    np.testing.assert_allclose(graphs.drag, drag, rtol=1e-5, atol=1e-5)


def nodes_at(distances, left_out=FAR):
    """Resting nodes at these distances along x, in a graph of five."""
    graph = empty_graph(SYSTEM.sensor)
    count = len(distances)
    position = graph.relative_position.at[:count].set(jnp.asarray(distances)[:, None] * jnp.array([1.0, 0.0, 0.0]))
    return graph.replace(
        relative_position=position, mask=graph.mask.at[:count].set(True), left_out=jnp.float32(left_out)
    )


def test_a_node_has_no_weight_at_the_sensing_radius_and_all_of_it_nearby():
    reach = SYSTEM.sensor.range
    weights = node_weights(nodes_at([0.1, 0.7 * reach, 0.9 * reach, reach, 1.1 * reach]))
    np.testing.assert_allclose(weights[:2], 1.0, atol=1e-6)
    assert 0.0 < weights[2] < 1.0
    np.testing.assert_allclose(weights[3:], 0.0, atol=1e-6)


def test_a_node_has_no_weight_when_another_takes_its_place():
    # At rest the closing speed is log 2 / sharpness: the distance ahead is that much, times the lookahead, less.
    ahead = SYSTEM.sensor.lookahead * np.log(2.0) / CLOSING_SHARPNESS
    swap = 2.0
    distances = swap + ahead - SWAP_WIDTH * np.array([2.0, 1.0, 0.5, 0.0])
    weights = node_weights(nodes_at(distances, left_out=swap))
    np.testing.assert_allclose(weights, [1.0, 1.0, 0.5, 0.0, 0.0], atol=1e-5)


def test_masked_nodes_have_neither_weight_nor_features():
    graph = nodes_at([0.5, 1.0])
    assert np.all(np.asarray(node_weights(graph)[2:]) == 0.0)
    assert np.all(np.asarray(edge_features(graph)[2:]) == 0.0)
    np.testing.assert_allclose(edge_features(graph)[0, :3], [0.5, 0.0, 0.0])


def readers(system):
    """Everything that reads a graph, as functions of the graph alone; flat results."""
    return {
        "braking": make_braking_barrier(system),
        "distance": make_distance_barrier(system),
        "neural": make_neural_barrier(system)(random_barrier(system)),
        "policy": lambda graph: make_policy(system)(random_policy(system), graph),
    }


@pytest.mark.parametrize("name", ["braking", "distance", "neural", "policy"])
def test_seeing_nothing_gives_finite_values_and_the_gradient_of_what_is_left(name):
    graph, reader = empty_graph(SYSTEM.sensor), readers(SYSTEM)[name]
    leaves = [field.name for field in dataclasses.fields(graph) if field.metadata.get("pytree_node", True)]
    given = {name: getattr(graph, name) for name in leaves if name != "mask"}
    floats = {name: value for name, value in given.items() if value is not None}

    def read(values):
        return reader(graph.replace(**values))

    value, slopes = jax.jit(lambda values: (read(values), jax.jacrev(read)(values)))(floats)
    assert np.all(np.isfinite(value))
    for field, slope in slopes.items():
        assert np.all(np.isfinite(slope)), field
    for field in ("relative_position", "relative_velocity"):
        assert np.all(np.asarray(slopes[field]) == 0.0), "nodes that are not there have no influence"


USUAL = small_system()
"""With the default number of neighbours."""
COARSE = 4000
"""Samples of a straight flight of 7 m: 1.75 mm apart, and half of that."""


def beside(obstacles, start, end):
    """Without the obstacles within a drone's radius of the path: inside one, the direction to its surface flips."""
    distance = swept_distances(obstacles, jnp.asarray(start), jnp.asarray(end), 1.0)
    return obstacles.only(distance > SYSTEM.physics.drone_radius)


@pytest.fixture(scope="module")
def flights():
    """Name -> largest change between two samples, for both steps, with and without fading, over a few flights."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(4)
        named = readers(USUAL)

        def read(obstacles, position, velocity, faded):
            graph = graph_seen(USUAL, obstacles, position, velocity)
            graph = graph.replace(left_out=jnp.where(faded, graph.left_out, FAR))
            chosen = {name: reader(graph) for name, reader in named.items()}
            return chosen, jnp.sum(graph.relative_position, 0)

        along = jax.jit(jax.vmap(read, in_axes=(None, 0, None, None)))
        result = {name: [] for name in named}
        swaps = 0
        for seed in range(3):
            start, velocity = rng.uniform(-1.0, 1.0, 3) - [3.5, 0.0, 0.0], np.array([3.0, *rng.uniform(-0.5, 0.5, 2)])
            for faded in (True, False):
                places = start + np.linspace(0.0, 7.0, 2 * COARSE + 1)[:, None] * velocity / np.linalg.norm(velocity)
                obstacles = beside(crowd(seed, count=60), places[0], places[-1])
                values, nodes = along(obstacles, jnp.asarray(places), jnp.asarray(velocity), faded)
                swaps += int((np.abs(np.diff(nodes, axis=0)).max(-1) > 0.05).sum())
                for name, value in values.items():
                    value = np.asarray(value).reshape(2 * COARSE + 1, -1)
                    steps = [np.abs(np.diff(value[::stride], axis=0)).max() for stride in (2, 1)]
                    result[name].append((faded, *steps))
        assert swaps > 20, "the flights must pass many changes of the graph"
    return result


@pytest.mark.slow
@pytest.mark.parametrize("name", ["neural", "policy"])
def test_nothing_jumps_along_a_straight_flight_past_many_obstacles(flights, name):
    """Of a function with a bounded slope, half the step is half the largest change; of a jump it is all of it."""
    for faded, coarse, fine in flights[name]:
        if faded:
            # 0.55: the largest slope is met at a sample only up to its curvature times the step.
            assert 0.0 < fine < 0.55 * coarse


@pytest.mark.slow
def test_the_braking_barrier_hardly_jumps_when_a_node_it_does_not_need_is_replaced(flights):
    """The soft minimum knows no weights: a node left out although near, since receding, is missed by a little."""
    for _, coarse, fine in flights["braking"]:
        assert 0.0 < fine < 0.5 * coarse + 0.1 * USUAL.barrier.temperature


@pytest.mark.slow
def test_without_the_fading_the_neural_barrier_would_jump(flights):
    assert any(fine > 0.9 * coarse for faded, coarse, fine in flights["neural"] if not faded)
