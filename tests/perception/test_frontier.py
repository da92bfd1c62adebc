"""What was never seen is not free: how far the way was observed, and what the barrier makes of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.barrier.analytic import CREEPING, free_margin, make_analytic_barrier
from drone_cbf.barrier.rows import make_row_reader, slopes
from drone_cbf.config import SensorConfig, SystemConfig
from drone_cbf.perception.depth import HALF_HEIGHT, HALF_WIDTH
from drone_cbf.perception.frontier import MOVED, VIEWS, make_remembering, no_views, observed, seen_ahead
from drone_cbf.perception.graphs import empty_graph
from drone_cbf.perception.readings import OwnMotion, Reading
from drone_cbf.safety.filter import make_filter
from drone_cbf.safety.records import Limits, Row

SYSTEM = SystemConfig(sensor=SensorConfig(kind="depth", map_memory=2.0))
DT, RANGE = SYSTEM.physics.time_step, SYSTEM.sensor.range
REMEMBER, AHEAD = jax.jit(make_remembering(SYSTEM)), jax.jit(seen_ahead)
ZERO = jnp.asarray(np.zeros(3, np.float32))


def reading(depth=RANGE, yaw=0.0, position=(0.0, 0.0, 0.0)):
    """An image of uniform ``depth`` [m]."""
    own = OwnMotion(position=jnp.asarray(position, jnp.float32), velocity=ZERO, yaw=jnp.float32(yaw))
    points = np.asarray(position) + depth * np.broadcast_to([np.cos(yaw), np.sin(yaw), 0.0], (192, 3))
    return Reading(
        own=own,
        noise=jnp.float32(0.0),
        points=jnp.asarray(points, jnp.float32),
        hit=jnp.asarray(np.full(192, depth < RANGE)),
        velocity=jnp.asarray(np.zeros((192, 3), np.float32)),
        spread=jnp.asarray(np.zeros(192, np.float32)),
    )


def after(*readings, views=None):
    views = no_views() if views is None else views
    for each in readings:
        views = REMEMBER(views, each, each.own.position)
    return views


def ahead(views, direction, start=(0.0, 0.0, 0.0), reach=6.0):
    return float(AHEAD(views, jnp.asarray(start, jnp.float32), jnp.asarray(direction, jnp.float32), jnp.float32(reach)))


@pytest.mark.parametrize(
    ("direction", "expected"),
    [
        ((2.0, 0.0, 0.0), 6.0),
        ((-1.0, 0.0, 0.0), 0.0),
        ((0.0, 1.0, 0.0), 0.0),
        ((1.0, 0.8 * HALF_WIDTH, 0.0), 6.0),
        ((1.0, 1.1 * HALF_WIDTH, 0.0), 0.0),
        ((1.0, 0.0, -1.1 * HALF_HEIGHT), 0.0),
    ],
)
def test_the_way_is_seen_within_the_field_of_view_alone(direction, expected):
    assert ahead(after(reading()), direction) == pytest.approx(expected, abs=1e-5)


def test_the_way_ends_at_the_depth_that_was_seen():
    assert ahead(after(reading(depth=2.5)), (1.0, 0.0, 0.0)) == pytest.approx(2.5, abs=6.0 / 128 + 1e-5)


def test_the_end_of_the_seen_way_agrees_with_dense_sampling_and_is_never_beyond():
    rng = np.random.default_rng(0)
    views = after(reading(depth=4.0, yaw=0.3))
    lengths = []
    for _ in range(40):
        start = np.array([rng.uniform(0.5, 3.0), 0.0, 0.0]) @ [[np.cos(0.3), np.sin(0.3), 0], [0, 0, 0], [0, 0, 1]]
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        way = start + np.linspace(0.0, 6.0, 6001)[:, None] * direction
        depth, left = (
            way[:, 0] * np.cos(0.3) + way[:, 1] * np.sin(0.3),
            way[:, 1] * np.cos(0.3) - way[:, 0] * np.sin(0.3),
        )
        inside = (np.abs(left) <= HALF_WIDTH * depth) & (np.abs(way[:, 2]) <= HALF_HEIGHT * depth) & (depth <= 4.0)
        true = 6.0 * (np.argmin(inside) if not inside.all() else 6000) / 6000
        ours = ahead(views, direction, start)
        lengths.append(true)
        assert true - 6.0 / 128 - 2e-3 <= ours <= true + 2e-3
    assert np.ptp(lengths) > 2.0


def test_what_was_seen_stays_seen_behind_the_back_until_it_is_forgotten():
    back = ((-1.0, 0.0, 0.0), (0.0, 0.0, 0.0), 4.0)
    views = after(reading(yaw=np.pi))
    turning = [reading(yaw=yaw) for yaw in np.linspace(np.pi, 0.0, 20)]
    views = after(*turning, views=views)
    assert ahead(views, *back) == pytest.approx(4.0, abs=1e-5) == ahead(views, (1.0, 0.0, 0.0), reach=4.0)
    views = after(*[reading() for _ in range(round(2.0 / DT) + 2)], views=views)
    assert ahead(views, *back) == 0.0 and ahead(views, (1.0, 0.0, 0.0)) == pytest.approx(6.0, abs=1e-5)


def test_hovering_does_not_push_out_what_was_seen_elsewhere():
    views = after(reading(yaw=np.pi), *[reading() for _ in range(20)])
    assert np.sum(np.asarray(views.depths)[:, 0] > 0.0) <= 3
    moving = [reading(position=(0.3 * step, 0.0, 0.0)) for step in range(30)]
    views = after(*moving)
    assert np.all(np.asarray(views.depths)[:, 0] > 0.0)
    kept = np.asarray(views.position)[1:, 0]
    assert np.all(np.abs(np.diff(kept)) >= MOVED - 0.31) and len(kept) == VIEWS - 1


def test_nothing_was_seen_before_the_first_reading():
    assert not np.any(
        jax.jit(observed)(no_views(), jnp.asarray(np.random.default_rng(0).normal(size=(50, 3)), jnp.float32))
    )


def graph(frontier, velocity):
    seen = empty_graph(SYSTEM.sensor)
    return seen.replace(frontier=jnp.float32(frontier), velocity=jnp.asarray(velocity, jnp.float32))


@pytest.mark.parametrize("kind", [(2.0, (3.0, 1.0, 0.5)), (1.0, (0.0, -2.0, 0.0)), (0.05, (1.0, 0.0, 0.0))])
def test_the_row_knows_that_the_frontier_rests_while_the_drone_flies_on(kind):
    frontier, velocity = kind
    barrier, command = make_analytic_barrier(SYSTEM), np.array([-2.0, 1.0, 0.5])
    at = slopes(barrier, graph(frontier, velocity))
    rate = float(at.drift + jnp.dot(at.by_velocity, jnp.asarray(command, jnp.float32)))

    def later(time):
        flown = np.linalg.norm(velocity) * time
        return float(barrier(graph(frontier - flown, np.asarray(velocity) + time * command)))

    assert rate == pytest.approx((later(0.01) - later(-0.01)) / 0.02, rel=0.02, abs=0.02)
    assert np.linalg.norm(at.by_velocity) > 0.05


def fly_blind(frontier, seconds=4.0):
    """Way and speed of a point that wants backwards at 5 m/s^2 behind the filter; ``frontier``: of way flown [m]."""
    barrier, read, act = make_analytic_barrier(SYSTEM), make_row_reader(SYSTEM.barrier), make_filter(SYSTEM.filter)
    limits = Limits(lower=jnp.full(3, -8.0), upper=jnp.full(3, 8.0))
    wanted = jnp.array([-5.0, 0.0, 0.0])

    def step(carry, _):
        place, velocity = carry
        seen = empty_graph(SYSTEM.sensor).replace(frontier=frontier(place), velocity=velocity)
        at = read(barrier, seen)
        command = act(Row(normal=at.normal, offset=at.offset), wanted, limits, jnp.zeros(3)).command
        velocity = velocity + DT * command
        return (place + DT * jnp.abs(velocity[0]), velocity), (place, jnp.abs(velocity[0]))

    start = (jnp.float32(0.0), jnp.zeros(3))
    return jax.lax.scan(step, start, length=round(seconds / DT))[1]


def test_a_drone_only_creeps_into_what_it_never_saw():
    _, speeds = fly_blind(lambda place: jnp.float32(0.0))
    assert 0.1 < speeds.max() < 1.2 * CREEPING


def test_a_drone_slows_down_to_creeping_before_the_end_of_what_it_saw():
    places, speeds = fly_blind(lambda place: jnp.maximum(4.0 - place, 0.0))
    assert speeds.max() > 2.0 and np.all(np.asarray(speeds)[np.asarray(places) > 3.9] < 1.5 * CREEPING)


def test_free_space_is_worth_what_was_seen_of_it():
    velocity = jnp.array([2.0, 0.0, 0.0])
    barrier, radius = SYSTEM.barrier, SYSTEM.physics.drone_radius + SYSTEM.barrier.safety_margin
    stop = radius + 2.0 * barrier.reaction_time + 2.0**2 / (2.0 * barrier.braking)
    assert free_margin(velocity, SYSTEM, jnp.float32(3.0)) == pytest.approx(3.0 - stop, abs=1e-5)
    assert free_margin(velocity, SYSTEM) == pytest.approx(RANGE - stop, abs=1e-5)
    creeping = CREEPING * velocity / 2.0
    assert free_margin(creeping, SYSTEM, jnp.float32(0.0)) == pytest.approx(0.0, abs=1e-5)
