"""What the chord between two samples does not see of the path, against the path itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.config import PhysicsConfig
from drone_cbf.objectives.clearance import swept_clearances
from drone_cbf.physics.drone import DroneState, nominal_params
from drone_cbf.physics.obstacles import surface_distances
from drone_cbf.physics.point_mass import step
from tests.objectives.flights import flight
from tests.perception.worlds import PLAIN, capsules, scene_of, small_system

FINE = 25
"""Parts of a period in which the path is integrated."""
STEPS = 40
ROUNDING = 2e-5
"""[m]: float32 at coordinates of up to 30 m, a few times over."""


def bound(config: PhysicsConfig, fastest: float) -> float:
    """A dt^2 / 8, at an air speed of at most ``fastest`` [m/s]."""
    drag = (config.linear_drag + config.quadratic_drag * fastest) * fastest
    return (np.linalg.norm(config.max_acceleration) + drag) * config.time_step**2 / 8.0


def fine_path(config: PhysicsConfig, velocity, commands) -> np.ndarray:
    """Positions and velocities (STEPS * FINE + 1, 6) under ``commands``, each held for one period."""
    period, model = config.time_step / FINE, nominal_params(config)
    queue = jnp.zeros((round(config.delay / period) + 1, 3))
    state = DroneState(position=jnp.zeros(3), velocity=jnp.asarray(velocity), thrust=jnp.zeros(3), queue=queue)

    def one(state, command):
        after = step(state, command, model, period)
        return after, jnp.concatenate([after.position, after.velocity])

    held = jnp.repeat(jnp.asarray(commands, jnp.float32), FINE, axis=0)
    path = jax.jit(lambda: jax.lax.scan(one, state, held)[1])()
    return np.concatenate([np.concatenate([np.zeros(3), velocity])[None], path])


def true_clearances(config: PhysicsConfig, path: np.ndarray, scene) -> np.ndarray:
    """Smallest distance of the hull to each obstacle during each step along the fine ``path`` [m]."""
    times = jnp.arange(len(path)) * (config.time_step / FINE)
    at = jax.jit(jax.vmap(lambda time, point: surface_distances(scene.obstacles.at(time), point)))
    distances = np.asarray(at(times, jnp.asarray(path[:, :3], jnp.float32))) - config.drone_radius
    steps = FINE * np.arange(STEPS)[:, None] + np.arange(FINE + 1)
    return distances[steps].min(axis=1)


def reported(config: PhysicsConfig, path: np.ndarray, scene) -> np.ndarray:
    flown = flight(small_system(physics=config), path[::FINE, :3], path[::FINE, 3:])
    return np.asarray(swept_clearances(flown, scene, config))


@pytest.mark.parametrize("seed", range(3))
def test_no_clearance_is_reported_larger_than_it_is_by_more_than_the_bound(seed):
    """Full thrust this way and that, past balls close to the path, every other one moving."""
    config, rng = PhysicsConfig(), np.random.default_rng(seed)
    signs = np.repeat(rng.choice([-1.0, 1.0], (STEPS // 4, 3)), 4, axis=0)
    path = fine_path(config, np.array([5.0, 2.0, 0.0]), signs * config.max_acceleration)
    near = rng.integers(0, len(path), 60)
    velocity = np.where(np.arange(60)[:, None] % 2, rng.normal(size=(60, 3)), 0.0)
    aside = rng.normal(size=(60, 3))
    centre = path[near, :3] + 0.3 * aside / np.linalg.norm(aside, axis=1, keepdims=True)
    centre = centre - velocity * near[:, None] * config.time_step / FINE
    scene = scene_of(capsules(centre, 0.1, velocity=velocity))
    excess = reported(config, path, scene) - true_clearances(config, path, scene)
    limit = bound(config, np.linalg.norm(path[:, 3:], axis=1).max())
    assert excess.max() <= limit + ROUNDING
    assert excess.max() > 0.2 * limit, "the balls must be where the curvature counts"


def test_at_full_thrust_across_the_flight_the_bound_is_reached():
    """A parabola with its vertex at half the first step, and a ball before the vertex."""
    config = PLAIN
    thrust = np.array(config.max_acceleration)
    sideways = np.cross(thrust, [0.0, 0.0, 1.0])
    velocity = 5.0 * sideways / np.linalg.norm(sideways) - 0.5 * config.time_step * thrust
    path = fine_path(config, velocity, np.tile(thrust, (STEPS, 1)))
    middle = 0.5 * (path[0, :3] + path[FINE, :3])
    scene = scene_of(capsules([middle - 0.5 * thrust / np.linalg.norm(thrust)], 0.2))
    excess = reported(config, path, scene)[0] - true_clearances(config, path, scene)[0]
    np.testing.assert_allclose(excess, bound(config, 0.0), rtol=0.02)
    assert 0.0055 < excess[0] < 0.0065, "about 6 mm, as documented"


def test_the_documented_figures_are_those_of_the_default_limits():
    assert bound(PhysicsConfig(), 0.0) == pytest.approx(0.0059, abs=5e-5)
    assert bound(PhysicsConfig(), 5.5) == pytest.approx(0.0065, abs=5e-5)
