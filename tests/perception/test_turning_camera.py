"""What comes into a camera's view by its own turning has not approached."""

import jax
import jax.numpy as jnp
import numpy as np

from drone_cbf.config import SensorConfig
from drone_cbf.perception.approach import empty_history, make_approach, remember
from drone_cbf.perception.depth import draw_depth_errors, make_depth_camera, make_depth_view
from drone_cbf.perception.point_map import PointMap
from drone_cbf.physics.drone import initial_state
from tests.perception.worlds import capsules, small_system

CONFIG = SensorConfig(kind="depth")
SYSTEM = small_system(sensor=CONFIG)
DT, ZERO = SYSTEM.physics.time_step, jnp.zeros(3)
EXACT = jax.tree.map(jnp.zeros_like, draw_depth_errors(jnp.float32(0.0), 0, jax.random.key(0)))


def approaching(yaws, balls):
    """Velocities inferred of the points last seen [m/s], of a drone at rest that looks at ``yaws`` [rad] in turn; a
    ball of 0.5 m is at ``balls`` [m] on the x axis."""
    camera, in_view, infer = make_depth_camera(CONFIG), make_depth_view(CONFIG), make_approach(CONFIG, DT)
    history = empty_history(CONFIG, DT)

    @jax.jit
    def look(history, yaw, ball):
        state = initial_state(ZERO, ZERO, SYSTEM.physics).replace(yaw=yaw)
        obstacles = capsules([[0.0, 0.0, 0.0]], 0.5)
        obstacles = obstacles.replace(
            capsules=obstacles.capsules.replace(centre=jnp.stack([ball, 0.0 * ball, 0.0 * ball])[None])
        )
        reading = camera(obstacles, state, ZERO, jnp.int32(0), EXACT, jnp.float32(0.0))
        history = remember(history, reading, ZERO, in_view)
        points = PointMap(reading.points, reading.velocity, reading.spread, jnp.zeros(192), reading.hit)
        return history, infer(history, points)[1], reading.hit

    for yaw, ball in zip(yaws, balls, strict=True):
        history, velocities, hit = look(history, jnp.float32(yaw), jnp.float32(ball))
    return np.asarray(velocities)[np.asarray(hit)]


def test_a_ball_that_the_camera_turns_to_does_not_seem_to_approach():
    seen = approaching(np.linspace(-2.0, 0.0, 14), np.full(14, 3.0))
    assert len(seen) > 5 and np.all(seen == 0.0)


def test_a_ball_that_comes_nearer_in_view_does():
    seen = approaching(np.zeros(14), np.linspace(4.3, 3.0, 14))
    assert len(seen) > 5 and np.min(seen[:, 0]) < -0.9
