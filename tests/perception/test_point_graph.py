"""The graph of unlabelled points: the choice per sector by brute force, invariances, continuity and openings."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.barrier.analytic import make_analytic_barrier
from drone_cbf.perception.directions import CELLS, SECTORS, cell_directions, sector_axes
from drone_cbf.perception.graphs import CLOSING_SHARPNESS, empty_graph, node_weights
from drone_cbf.perception.point_graph import (
    NARROWEST,
    OUTSIDE,
    TUBE,
    WIDER,
    make_node_choice,
    make_point_graph,
    most_urgent,
    openings,
)
from drone_cbf.physics.drone import nominal_params
from drone_cbf.physics.motion import Motion
from tests.perception.test_point_map import points_at
from tests.perception.worlds import PLAIN, lidar_system

SYSTEM = lidar_system(physics=PLAIN)
BARRIER = make_analytic_barrier(SYSTEM)
VALUE = jax.jit(BARRIER)
URGENT = jax.jit(functools.partial(most_urgent, system=SYSTEM))
ROUNDING = 1e-5
"""[m]: float32 at distances of a few metres."""


def motion_at(position=(0.0, 0.0, 0.0), velocity=(0.0, 0.0, 0.0)) -> Motion:
    return Motion(position=jnp.asarray(position), velocity=jnp.asarray(velocity), thrust=jnp.zeros(3))


@jax.jit
def seen(points, motion):
    drone = nominal_params(SYSTEM.physics)
    nodes = make_node_choice(SYSTEM)(points, motion, drone.delay)
    return make_point_graph(SYSTEM)(motion, nodes, points, jnp.array([4.0, 0.0, 0.0]), drone)


def h(points, motion) -> float:
    return float(VALUE(seen(points, motion)))


def scattered_points(count=60, seed=0):
    rng = np.random.default_rng(seed)
    return np.float32(rng.uniform(0.4, 3.0, (count, 1)) * rng.normal(size=(count, 3)))


@functools.cache
def urgencies(seed):
    """(offsets, velocities, margin plus penalty (sectors, points) in float64)."""
    rng = np.random.default_rng(seed)
    offset, approach = scattered_points(seed=seed), np.float32(3.0 * rng.normal(size=(60, 3)))
    barrier = SYSTEM.barrier
    table = np.zeros((SECTORS, 60))
    for index, (one, speed) in enumerate(zip(np.float64(offset), np.float64(approach), strict=True)):
        distance = np.linalg.norm(one)
        closing = np.logaddexp(0.0, -CLOSING_SHARPNESS * (one @ speed) / distance) / CLOSING_SHARPNESS
        cosines = -np.float64(sector_axes()) @ one / distance
        margin = distance - barrier.reaction_time * closing - closing**2 / (2.0 * barrier.braking)
        table[:, index] = margin + OUTSIDE * (cosines.max() - cosines)
    return offset, approach, table


@pytest.mark.parametrize("seed", range(3))
def test_every_sector_holds_the_point_of_least_margin_and_penalty(seed):
    offset, approach, table = urgencies(seed)
    chosen, penalty = URGENT(jnp.asarray(offset), jnp.asarray(approach), jnp.ones(len(offset), bool))
    np.testing.assert_array_equal(chosen, table.argmin(-1))
    margins = table.min(0)  # in its own sector a point has no penalty
    np.testing.assert_allclose(penalty, table.min(-1) - margins[table.argmin(-1)], atol=ROUNDING)
    assert np.asarray(penalty).min() >= -ROUNDING and (np.asarray(penalty) > 0.1).any()


def test_the_most_urgent_point_of_all_has_no_penalty_and_full_weight():
    points = np.concatenate([scattered_points(), [[0.2, 0.1, -0.1]]])
    graph = seen(points_at(points), motion_at())
    nearest = np.linalg.norm(graph.relative_position, axis=-1).argmin()
    np.testing.assert_allclose(graph.relative_position[nearest], [-0.2, -0.1, 0.1], rtol=1e-6)
    assert graph.penalty[nearest] == pytest.approx(0.0, abs=ROUNDING)
    assert np.asarray(node_weights(graph))[nearest] > 0.99


def test_order_and_duplicates_of_points_change_nothing():
    points = scattered_points()
    motion = motion_at(velocity=(2.0, -1.0, 0.5))
    order = np.random.default_rng(3).permutation(len(points))
    graphs = [seen(points_at(each), motion) for each in (points, points[order], np.concatenate([points, points]))]
    for name in ("relative_position", "relative_velocity", "mask", "penalty", "openings"):
        for other in graphs[1:]:
            np.testing.assert_array_equal(getattr(other, name), getattr(graphs[0], name), err_msg=name)


def wall(spacing: float):
    """Points on the plane x = 1 m."""
    line = np.arange(-3.0, 3.0 + 1e-6, spacing)
    y, z = (grid.ravel() for grid in np.meshgrid(line, line))
    return points_at(np.stack([np.ones_like(y), y, z], -1))


def test_a_dense_wall_is_one_obstacle_however_many_points_it_has():
    motion = motion_at(velocity=(1.5, 0.0, 0.0))
    coarse, dense = h(wall(0.25), motion), h(wall(0.0625), motion)
    alone = h(points_at([[1.0, 0.0, 0.0]]), motion)
    # 576 and 9,409 points; as separate nodes they would lower h by T log(16) from the one to the other.
    assert abs(dense - coarse) < 0.01
    assert 0.0 <= alone - dense < SYSTEM.barrier.temperature * np.log(6.0)


def test_h_is_continuous_as_a_point_goes_round_from_sector_to_sector():
    """At a distance of 1 m, at rest: the sectors that the point belongs to as well lower h by at most T log 5."""
    angles = np.linspace(0.0, 2.0 * np.pi, 1500)
    axes = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
    circle = np.cos(angles)[:, None] * axes[0] + np.sin(angles)[:, None] * axes[1]
    each = jax.jit(jax.vmap(lambda point: BARRIER(seen(points_at(point[None]), motion_at()))))
    values = np.asarray(each(jnp.asarray(circle, jnp.float32)), np.float64)
    # dh per angle: the penalty changes by at most OUTSIDE per radian twice, softened by the weight of the node.
    assert np.abs(np.diff(values)).max() < 2.0 * OUTSIDE * angles[1] + ROUNDING
    assert np.ptp(values) < SYSTEM.barrier.temperature * np.log(5.0)
    assert len(np.unique(np.argmax(circle @ sector_axes().T, axis=-1))) >= 8


@pytest.mark.parametrize("doubt", [0.0, 0.1])
def test_directions_are_open_as_far_as_a_tube_along_them_is_free(doubt):
    points, known = scattered_points(40, seed=7), np.arange(40) % 5 > 0
    points[:6] *= 0.2  # some nearer than the tube is wide
    limit = SYSTEM.sensor.range
    radius = TUBE + doubt * (np.arange(40) % 2)
    expected = np.full(CELLS, limit)
    for cell, direction in enumerate(np.float64(cell_directions())):
        for point, clear in zip(np.float64(points)[known], radius[known], strict=True):
            away = np.linalg.norm(point)
            angle = np.arccos(np.clip(point @ direction / away, -1.0, 1.0))
            if angle < np.arcsin(min(clear / away, NARROWEST)):
                expected[cell] = min(expected[cell], away * np.cos(angle))
    every = jnp.asarray(radius, jnp.float32)
    found = jax.jit(functools.partial(openings, limit=limit))(jnp.asarray(points), jnp.asarray(known), radius=every)
    np.testing.assert_allclose(found, expected, atol=ROUNDING)
    assert 0.1 < (expected < limit).mean() < 0.95


def test_a_gap_that_is_open_to_exact_points_may_be_closed_to_doubtful_ones():
    ahead, spread = 7, 0.05
    direction = cell_directions()[ahead]
    aside = (TUBE + 0.5 * WIDER * spread) * np.array([-direction[1], direction[0], 0.0]) / np.hypot(*direction[:2])
    gap = points_at(2.0 * direction + np.stack([aside, -aside]))
    for doubt, is_open in ((0.0, True), (spread, False)):
        graph = seen(gap.replace(spread=jnp.full_like(gap.spread, doubt)), motion_at())
        assert (float(graph.openings[ahead]) > 2.5) == is_open, doubt


def test_without_points_the_graph_is_the_empty_one():
    graph, empty = seen(points_at(np.ones((CELLS, 3)), [False] * CELLS), motion_at()), empty_graph(SYSTEM.sensor)
    for name in ("relative_position", "relative_velocity", "mask", "spread", "penalty", "openings"):
        ours, theirs = getattr(graph, name), getattr(empty, name)
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype, name
        if name not in ("relative_position", "relative_velocity"):
            np.testing.assert_array_equal(ours, theirs, err_msg=name)
    assert not np.asarray(node_weights(graph)).any()
