"""The braking barrier beside round surfaces: zero where the best acceleration away from the centre just suffices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import ValidationError

from drone_cbf.barrier.analytic import braking_margins, make_analytic_barrier
from drone_cbf.barrier.rows import make_row_reader, slopes
from drone_cbf.barrier.truth import make_true_barrier
from drone_cbf.config import BarrierConfig, SensorConfig, SystemConfig
from drone_cbf.perception.truth import true_graph
from drone_cbf.physics.motion import Motion
from drone_cbf.physics.obstacles import PLANE, obstacles_of, rounding
from tests.perception.worlds import PLAIN, boxes, capsules, scene_of, small_system

RADIUS = 0.4
ROUND = BarrierConfig(features=8, passing=1.0, reaction_time=0.0)
SYSTEM = small_system(physics=PLAIN, barrier=ROUND)
SAFE = SYSTEM.physics.drone_radius + ROUND.safety_margin
TALL = 30.0  # Half height of a trunk [m]


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with jax.enable_x64(True):
        yield


def motion_of(position, velocity):
    return Motion(position=jnp.asarray(position), velocity=jnp.asarray(velocity), thrust=jnp.zeros(3))


def one(half_height, velocity=0.0):
    """A ball, or a trunk, of :data:`RADIUS` around the origin."""
    return scene_of(capsules([[0.0, 0.0, 0.0]], RADIUS, half_height, velocity))


@functools.partial(jax.jit, static_argnums=2)
def margin(position, velocity, half_height):
    return braking_margins(true_graph(motion_of(position, velocity), one(half_height), None, SYSTEM), SYSTEM)[0]


def nearest_approach(position, velocity, half_height, step=2e-4):
    """Smallest distance from the centre [m] under a_brake away from it: leapfrog in float64, no formula."""
    flat = np.array([1.0, 1.0, 0.0]) if half_height else np.ones(3)
    place, speed, nearest = np.array(position), np.array(velocity), np.inf
    for _ in range(round(2.0 / step)):
        place = place + 0.5 * step * speed
        away = flat * place
        speed = speed + step * ROUND.braking * away / np.linalg.norm(away)
        place = place + 0.5 * step * speed
        nearest = min(nearest, np.linalg.norm(flat * place))
    return nearest


@pytest.mark.parametrize("half_height", [0.0, TALL])
@pytest.mark.parametrize("seed", range(6))
def test_h_is_zero_where_accelerating_away_from_the_centre_just_keeps_the_safe_distance(half_height, seed):
    rng = np.random.default_rng(seed)
    position = rng.uniform(1.0, 3.0) * np.array([-1.0, rng.uniform(0.0, 0.5), 0.0])
    direction = np.array([1.0, rng.uniform(-0.2, 0.2), rng.uniform(-0.2, 0.2)])
    low, high = 0.5, 25.0
    if margin(position, high * direction, half_height) > 0.0:
        assert nearest_approach(position, high * direction, half_height) > RADIUS + SAFE
        return
    for _ in range(40):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if margin(position, middle * direction, half_height) > 0.0 else (low, middle)
    assert nearest_approach(position, low * direction, half_height) == pytest.approx(RADIUS + SAFE, abs=2e-3)


def test_flying_past_is_allowed_at_speeds_at_which_a_plane_would_have_to_be_stopped_before():
    flat = SYSTEM.model_copy(update={"barrier": ROUND.model_copy(update={"passing": 0.0})})
    motion = motion_of([-2.0, 1.2, 0.0], [10.0, 0.0, 0.0])
    beside = [float(make_true_barrier(system)(motion, one(TALL), None)) for system in (SYSTEM, flat)]
    assert beside[0] > 0.5 and beside[1] < -2.0


@pytest.mark.parametrize("half_height", [0.0, TALL])
@pytest.mark.parametrize("seed", range(4))
def test_the_row_has_the_true_rate_beside_a_single_moving_surface(half_height, seed):
    """Rate of the true barrier along the motion by central differences, against the row read from the graph."""
    rng = np.random.default_rng(seed)
    system = small_system(physics=PLAIN, barrier=BarrierConfig(features=8, passing=1.0))
    moving = 0.5 * rng.normal(size=3) * [1.0, 1.0, half_height == 0.0]
    scene, truth = one(half_height, moving), make_true_barrier(system)
    position, velocity = np.array([-1.5, 0.8, 0.3]), np.array([4.0, 1.0, -0.5]) + rng.normal(size=3)
    command = 3.0 * rng.normal(size=3)

    @jax.jit
    def h(time):
        moved = position + velocity * time + 0.5 * command * time**2
        return truth(motion_of(moved, velocity + command * time), scene, time)

    rate = float(h(1e-5) - h(-1e-5)) / 2e-5
    graph = true_graph(motion_of(position, velocity), scene, jnp.float64(0.0), system)
    barrier, untightened = make_analytic_barrier(system), {"speed_tightening": 0.0, "noise_tightening": 0.0}
    row = make_row_reader(system.barrier.model_copy(update=untightened))(barrier, graph)
    promised = float(row.normal @ command - row.offset) - system.barrier.class_k_gain * float(row.value)
    assert promised == pytest.approx(rate, abs=1e-5)
    assert row.value == pytest.approx(float(h(0.0)), abs=1e-9)
    assert slopes(barrier, graph).value == row.value


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_accelerating_away_from_the_centre_meets_the_row_at_any_speed(share):
    """u = a_brake n: the condition holds wherever h is above zero, also where no brake on its own would do."""
    system = small_system(physics=PLAIN, barrier=BarrierConfig(features=8, passing=share))
    barrier, read = (
        make_analytic_barrier(system),
        make_row_reader(system.barrier.model_copy(update={"speed_tightening": 0.0, "noise_tightening": 0.0})),
    )

    @jax.jit
    def spare(position, velocity):
        row = read(barrier, true_graph(motion_of(position, velocity), one(TALL), None, system))
        away = position * jnp.array([1.0, 1.0, 0.0])
        return row.value, row.normal @ (system.barrier.braking * away / jnp.linalg.norm(away)) - row.offset

    rng = np.random.default_rng(0)
    states = [(rng.uniform(-3, 3, 3), rng.normal(size=3) * [8.0, 8.0, 1.0]) for _ in range(200)]
    found = np.array([spare(*state) for state in states if np.hypot(*state[0][:2]) > RADIUS + SAFE])
    assert np.all(found[found[:, 0] > 0.0, 1] > -1e-6) and np.sum(found[:, 0] > 0.0) > 50


def test_the_flat_side_of_a_box_reaches_out_of_its_ball_by_the_sag_and_planes_stay_planes():
    half, sag = np.array([0.3, 0.2, 0.25]), 0.05
    radius, upright = rounding(boxes([[0.0, 0.0, 0.0]], [half]), sag)
    side = np.hypot(0.3, 0.25)  # half diagonal of the largest side
    assert radius[0] - np.sqrt(radius[0] ** 2 - side**2) == pytest.approx(sag) and not upright[0]
    assert rounding(boxes([[0.0, 0.0, 0.0]], [[0.1, 50.0, 50.0]]), sag)[0][0] == PLANE
    assert rounding(obstacles_of(), sag)[0].shape == (0,)


def test_flat_surfaces_stay_as_they_are_and_round_ones_need_labelled_points():
    flat = small_system(physics=PLAIN)
    graph = true_graph(motion_of([-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]), one(0.0), None, flat)
    assert graph.radius is None and graph.upright is None
    with pytest.raises(ValidationError, match="barrier.passing needs"):
        SystemConfig(barrier=ROUND, sensor=SensorConfig(kind="lidar"))
