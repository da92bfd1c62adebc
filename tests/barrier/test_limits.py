"""Barriers, rows and commands at the limits of states: finite, admissible, and h <= 0 where no stop is possible."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.barrier.analytic import make_analytic_barrier
from drone_cbf.barrier.neural import make_neural_barrier
from drone_cbf.barrier.rows import make_row_reader
from drone_cbf.config import BarrierConfig
from drone_cbf.perception.point_graph import make_node_choice, make_point_graph
from drone_cbf.perception.point_map import PointMap, nearest_in_cells
from drone_cbf.perception.truth import true_graph
from drone_cbf.physics.belief import braking_command
from drone_cbf.physics.drone import nominal_params
from drone_cbf.physics.motion import Motion
from drone_cbf.safety import Limits, Row, Status, make_filter
from tests.barrier import extremes
from tests.perception.worlds import lidar_system, random_barrier, scene_of, small_system

POINTS = 12
NOMINAL = np.float32([9.0, -3.0, 1.0])
KINDS = ("surfaces, braking", "surfaces, distance_hocbf", "surfaces, neural", "points, braking", "points, neural",
         "camera, braking")  # fmt: skip


def systems(kind):
    sensor, barrier = kind.split(", ")
    config = BarrierConfig(kind="distance_hocbf" if barrier == "distance_hocbf" else "braking", features=8)
    return small_system(barrier=config) if sensor == "surfaces" else lidar_system(barrier=config)


def graph_function(kind, system):
    """(motion, solids or points) -> graph."""
    drone, goal = nominal_params(system.physics), jnp.asarray([4.0, 0.0, 1.0], jnp.float32)
    if kind.startswith("surfaces"):
        return lambda motion, obstacles: true_graph(motion, scene_of(obstacles), None, system)
    choose, build = make_node_choice(system), make_point_graph(system)

    def graph(motion, points):
        zero = jnp.zeros(len(points), jnp.float32)
        seen = PointMap(points, jnp.zeros_like(points), spread=zero, age=zero, known=zero == 0.0)
        built = build(motion, choose(seen, motion, drone.delay), nearest_in_cells(seen, motion.position), goal, drone)
        return built.replace(frontier=jnp.float32(1.0)) if kind.startswith("camera") else built

    return graph


@functools.cache
def outcome_function(kind):
    """(position, velocity, solids or points) -> (reading, safe command, gradient of the sum of all by the state)."""
    system = systems(kind)
    graph, read, safety_filter = (
        graph_function(kind, system),
        make_row_reader(system.barrier),
        make_filter(system.filter),
    )
    neural = make_neural_barrier(system)(random_barrier(system)) if kind.endswith("neural") else None
    barrier, model = neural or make_analytic_barrier(system), nominal_params(system.physics)
    limits = Limits(lower=-model.max_acceleration, upper=model.max_acceleration)

    def outcome(position, velocity, around):
        motion = Motion(position=position, velocity=velocity, thrust=jnp.zeros(3, jnp.float32))
        reading = read(barrier, graph(motion, around))
        brake = braking_command(velocity, model, system.physics.time_step)
        safe = safety_filter(Row(reading.normal, reading.offset), jnp.asarray(NOMINAL), limits, brake)
        return reading, safe

    def every(position, velocity, around):
        answers, pull_back = jax.vjp(lambda p, v: outcome(p, v, around), position, velocity)
        of_answers = jax.tree.map(jnp.ones_like, answers)
        none = np.zeros((), jax.dtypes.float0)  # of the status
        return *answers, pull_back((of_answers[0], of_answers[1].replace(status=none)))

    return jax.jit(jax.vmap(every))


def outcomes(kind, n, seed):
    position, velocity = extremes.states(n, seed)
    points = not kind.startswith("surfaces")
    make = functools.partial(extremes.scattered_points, n, POINTS) if points else functools.partial(extremes.solids, n)
    around = make(position, seed=seed + 1)
    return jax.tree.map(np.asarray, outcome_function(kind)(position, velocity, around))


def check(kind, n, seed):
    reading, safe, gradient = outcomes(kind, n, seed)
    for name, leaves in (("value", (reading, safe)), ("gradient", gradient)):
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(leaves)), name
    limit = systems(kind).physics.max_acceleration
    assert (np.abs(safe.command) <= np.float32(limit)).all()
    assert not (safe.status == Status.FALLBACK).any()


@pytest.mark.parametrize("kind", ["surfaces, braking", "points, braking"])
def test_values_and_gradients_are_finite_and_commands_admissible(kind):
    check(kind, 1_024, seed=3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_million_states_are_finite_and_their_commands_admissible(kind):
    """1,056,768 states of all kinds together."""
    for seed in range(172):
        check(kind, 1_024, seed=100 + 2 * seed)
