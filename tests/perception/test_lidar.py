"""The scanner: rays against signed distances in float64, its errors, its sweep, and what it cannot see."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.config import SensorConfig
from drone_cbf.perception.lidar import make_lidar_errors, ray_count, scan_directions
from drone_cbf.perception.sensor_kinds import make_sensor
from drone_cbf.physics.drone import initial_state
from drone_cbf.physics.obstacles import obstacles_of
from tests.perception.worlds import boxes, capsules, lidar_system, room
from tests.physics.solid_worlds import distances_of, mixed

EXACT = {"lidar_dropout": 0.0}
FIELD = (-35.0, 60.0)
ROUNDING = 1e-4
"""[m]: float32 at ranges of up to 8 m, over the sine of incidence."""


@functools.cache
def scanner(rays=(48, 12), **lidar):
    """(obstacles, position, step, noise, key) -> reading, compiled."""
    system = lidar_system(rays, EXACT | lidar)
    sensor = make_sensor(system)

    @jax.jit
    def read(obstacles, position, step=0, noise=0.0, key=None):
        state = initial_state(jnp.asarray(position), jnp.array([1.0, 0.0, 0.0]), system.physics)
        level = jnp.float32(noise)
        errors = sensor.draw_errors(level, obstacles.active.shape[0], jax.random.key(0) if key is None else key)
        return sensor.read(obstacles, state, state.position, jnp.int32(step), errors, level)

    return read


def test_every_hit_is_on_a_surface_in_sight_and_every_miss_is_free_to_the_range():
    world = mixed(3)
    origin = np.array([0.3, -0.2, 3.2])
    reading = scanner()(world, origin)
    solids = distances_of(world)
    rays = np.float64(scan_directions(SensorConfig(lidar_azimuths=48, lidar_elevations=12), jnp.int32(0)))
    points, hit = np.float64(reading.points), np.asarray(reading.hit)
    assert 0.1 < hit.mean() < 0.9
    assert np.abs(np.min([solid(points[hit]) for solid in solids], axis=0)).max() < ROUNDING
    way = np.where(hit, np.linalg.norm(points - origin, axis=-1), 8.0)
    np.testing.assert_allclose(points[hit], (origin + way[:, None] * rays)[hit], atol=ROUNDING)
    between = origin + np.linspace(0.0, 0.999, 400)[:, None, None] * (way[:, None] * rays)
    assert np.min([solid(between).min() for solid in solids]) > -ROUNDING


def test_a_scan_that_meets_nothing_is_not_blind_and_one_of_which_every_ray_is_lost_is():
    far = boxes([[90.0, 0.0, 0.0]], [[0.1, 6.0, 6.0]])
    free = scanner()(far, np.zeros(3))
    lost = scanner(lidar_dropout=1.0)(far, np.zeros(3))
    assert not free.hit.any() and not free.blind
    assert not lost.hit.any() and lost.blind


def test_what_stands_behind_a_wall_gives_no_point_and_moving_it_changes_nothing():
    wall = boxes([[2.0, 0.0, 0.0]], [[0.1, 6.0, 6.0]])
    ball = capsules([[3.5, 0.0, 0.0]], 1.0).capsules

    def seen(x, walled=True):
        moved = ball.replace(centre=ball.centre.at[0, 0].set(x))
        return scanner()(obstacles_of(capsules=moved, boxes=wall.boxes if walled else None), [0.0, 0.0, 0.0])

    here, there, bare = seen(3.5), seen(4.0), seen(3.5, walled=False)
    jax.tree.map(np.testing.assert_array_equal, here, there)
    assert np.asarray(bare.hit).sum() > 3 and np.asarray(here.points)[np.asarray(here.hit), 0].max() < 2.0


def test_rays_are_unit_vectors_in_the_field_of_view_and_shift_from_scan_to_scan():
    config = SensorConfig(kind="lidar", lidar_azimuths=24, lidar_elevations=6, lidar_field=FIELD)
    scans = np.float64(jax.vmap(lambda scan: scan_directions(config, scan))(jnp.arange(40)))
    assert scans.shape == (40, ray_count(config), 3)
    np.testing.assert_allclose(np.linalg.norm(scans, axis=-1), 1.0, atol=1e-6)
    elevation = np.rad2deg(np.arcsin(scans[..., 2]))
    assert FIELD[0] - 1e-3 < elevation.min() < FIELD[0] + 2.0 and FIELD[1] - 2.0 < elevation.max() < FIELD[1] + 1e-3
    turn = np.sort(np.arctan2(scans[..., 1], scans[..., 0]).reshape(40, 6, 24), axis=-1)
    np.testing.assert_allclose(np.diff(turn, axis=-1), 2.0 * np.pi / 24.0, atol=1e-4)
    # 40 scans of 144 rays: no direction of the field is farther than 4 degrees from a ray of one of them.
    inside = np.random.default_rng(1).uniform(*np.sin(np.deg2rad(FIELD)), 300)
    azimuth = np.random.default_rng(2).uniform(0.0, 2.0 * np.pi, 300)
    flat = np.sqrt(1.0 - inside**2)
    sample = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), inside], -1)
    gaps = [np.rad2deg(np.arccos((sample @ part.reshape(-1, 3).T).max(-1))).max() for part in (scans[:1], scans)]
    assert gaps[1] < 4.0 < gaps[0]


def test_a_thin_trunk_is_met_by_some_scan_wherever_it_stands():
    read = scanner((24, 6))
    for azimuth in np.linspace(0.0, 2.0 * np.pi, 7):
        trunk = capsules([[4.0 * np.cos(azimuth), 4.0 * np.sin(azimuth), 0.0]], 0.05, half_height=20.0)
        assert any(np.asarray(read(trunk, [0.0, 0.0, 0.0], step).hit).any() for step in range(8))


def test_range_noise_is_along_the_ray_and_of_the_level_and_points_are_placed_by_the_measured_position():
    read, level, origin = scanner(), 0.05, np.array([0.2, 0.1, -0.3])
    exact = read(room(), origin)
    along, own = [], []
    rays = np.float64(exact.points) - origin
    distance = np.linalg.norm(rays, axis=-1)
    for seed in range(20):
        noisy = read(room(), origin, 0, level, jax.random.key(seed))
        held = np.float64(noisy.own.position)
        error = np.float64(noisy.points) - held - rays
        along.append((error * rays).sum(-1) / distance)
        np.testing.assert_allclose(error, along[-1][:, None] * rays / distance[:, None], atol=1e-5)
        own += [held - origin, np.float64(noisy.own.velocity) - [1.0, 0.0, 0.0]]
        np.testing.assert_array_equal(noisy.spread, np.float32(level))
    for errors in (np.array(along), np.array(own)):
        # Mean and standard deviation of n normal numbers, to five of their own standard deviations.
        assert abs(errors.mean()) < 5.0 * level / np.sqrt(errors.size)
        assert abs(errors.std() / level - 1.0) < 5.0 / np.sqrt(2.0 * errors.size)


def test_at_level_zero_there_is_no_error():
    origin = jnp.array([0.2, 0.1, -0.3])
    readings = [scanner()(room(), origin, 0, 0.0, jax.random.key(seed)) for seed in (0, 1)]
    jax.tree.map(np.testing.assert_array_equal, *readings)
    np.testing.assert_array_equal(readings[0].own.position, origin)
    assert np.asarray(readings[0].hit).all()


def test_rays_are_lost_as_often_as_configured():
    config = SensorConfig(kind="lidar", lidar_dropout=0.2)
    draw = jax.jit(jax.vmap(lambda key: make_lidar_errors(config)(jnp.float32(0.1), 5, key)))
    lost = np.asarray(draw(jax.random.split(jax.random.key(0), 40)).lost)
    assert abs(lost.mean() - 0.2) < 5.0 * np.sqrt(0.2 * 0.8 / lost.size)
    reading = scanner(lidar_dropout=0.2)(room(), [0.0, 0.0, 0.0])
    assert 0.1 < 1.0 - np.asarray(reading.hit).mean() < 0.3


@pytest.mark.parametrize(("rate", "steps"), [(20.0, 1), (5.0, 4), (2.0, 10)])
def test_a_slow_scanner_sweeps_each_azimuth_once_a_turn(rate, steps):
    read = scanner((40, 2), lidar_rate=rate)
    fired = np.array([np.asarray(read(room(), [0.0, 0.0, 0.0], step).hit) for step in range(3, 3 + steps)])
    count = fired.reshape(steps, 2, 40)
    np.testing.assert_array_equal(count[:, 0], count[:, 1], err_msg="a column at a time")
    np.testing.assert_array_equal(count[:, 0].sum(0), 1)
    np.testing.assert_array_equal(count[:, 0].sum(-1), 40 // steps)


def test_beyond_the_range_nothing_is_hit_and_velocities_are_not_reported():
    ball = capsules([[8.4, 0.0, 0.0]], 0.3, velocity=2.0)
    assert not np.asarray(scanner()(ball, [0.0, 0.0, 0.0]).hit).any()
    near = scanner()(ball, [3.0, 0.0, 0.0])
    assert np.asarray(near.hit).any() and not np.asarray(near.velocity).any()


def test_no_gradient_passes_through_the_points_and_all_of_it_through_the_own_motion():
    read = scanner()

    def total(position, centre):
        ball = capsules([[2.0, 0.0, 0.0]], 0.5)
        moved = ball.replace(capsules=ball.capsules.replace(centre=centre))
        reading = read(moved, position)
        return jnp.sum(reading.points), jnp.sum(reading.own.position)

    arguments = jnp.zeros(3), jnp.array([[2.0, 0.0, 0.0]])
    by_position, by_centre = jax.jacrev(total, argnums=(0, 1))(*arguments)[0]
    assert not np.asarray(by_position).any() and not np.asarray(by_centre).any()
    np.testing.assert_array_equal(jax.jacrev(total)(*arguments)[1], 1.0)
