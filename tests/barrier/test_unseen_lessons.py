"""The teacher knows what no camera saw; the student is not taught to promise it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.barrier.analytic import free_margin
from drone_cbf.barrier.lessons import make_true_lesson, velocity_scale
from drone_cbf.config import SensorConfig
from drone_cbf.perception.graphs import empty_graph
from drone_cbf.physics.motion import Motion
from tests.perception.worlds import capsules, scene_of, small_system

SYSTEM = small_system(sensor=SensorConfig(kind="depth"))
LESSON = jax.jit(make_true_lesson(SYSTEM))
MOTION = Motion(position=jnp.zeros(3), velocity=jnp.array([2.0, 1.0, 0.0]), thrust=jnp.zeros(3))
SCENE = scene_of(capsules([[3.0, 0.0, 0.0]], 0.5))


def lesson(frontier):
    seen = empty_graph(SYSTEM.sensor).replace(frontier=jnp.float32(frontier), velocity=MOTION.velocity)
    return LESSON(seen, MOTION, SCENE, jnp.float32(0.0))


def test_what_was_seen_limits_the_lesson_and_what_is_there_does_too():
    known = lesson(8.0)
    assert lesson(6.0).value == known.value < free_margin(MOTION.velocity, SYSTEM, jnp.float32(6.0))
    assert lesson(0.7).value == pytest.approx(float(free_margin(MOTION.velocity, SYSTEM, jnp.float32(0.7))), abs=1e-5)


def test_the_frontier_comes_nearer_as_the_drone_moves_towards_it():
    taught, speed = lesson(0.7), np.linalg.norm(MOTION.velocity)
    towards = np.asarray(MOTION.velocity) / speed
    np.testing.assert_allclose(taught.gradient[:3], -towards, atol=1e-5)
    slope = -(SYSTEM.barrier.reaction_time + speed / SYSTEM.barrier.braking) / velocity_scale(SYSTEM)
    np.testing.assert_allclose(taught.gradient[3:], slope * towards, rtol=1e-4)
