"""Turning: the short way, at a limited rate, and only if asked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.config import PhysicsConfig
from drone_cbf.physics.drone import initial_state
from drone_cbf.physics.heading import heading_of, turned

PHYSICS = PhysicsConfig(yaw_rate=2.0)
LARGEST = 2.0 * PHYSICS.time_step
ZERO = jnp.zeros(3)


def facing(yaw):
    return initial_state(ZERO, ZERO, PHYSICS).replace(yaw=jnp.float32(yaw))


@pytest.mark.parametrize("yaw", [0.0, 3.1, -3.1, 20.0])
@pytest.mark.parametrize("aside", [0.05, -0.05, 1.0, -3.0, 3.0])
def test_the_drone_turns_the_short_way_at_most_at_its_rate(yaw, aside):
    angle = yaw + aside
    look = jnp.array([3.0 * np.cos(angle), 3.0 * np.sin(angle), 7.0])
    after = turned(facing(yaw), look, PHYSICS).yaw
    assert after - np.float32(yaw) == pytest.approx(np.clip(aside, -LARGEST, LARGEST), abs=5e-6)


@pytest.mark.parametrize("look", [[0.0, 0.0, 0.0], [0.01, -0.02, 5.0], None])
def test_who_is_not_told_where_to_look_does_not_turn(look):
    assert turned(facing(0.7), None if look is None else jnp.asarray(look), PHYSICS).yaw == np.float32(0.7)


def test_a_state_without_yaw_stays_without():
    state = initial_state(ZERO, ZERO, PHYSICS)
    assert turned(state, jnp.ones(3), PHYSICS) is state


def test_a_heading_faces_its_direction_and_turning_has_no_gradient():
    assert heading_of(jnp.array([-1.0, 1.0, 9.0])) == pytest.approx(0.75 * np.pi)
    slope = jax.grad(lambda look: turned(facing(0.0), look, PHYSICS).yaw)(jnp.array([1.0, 0.02, 0.0]))
    assert np.all(np.asarray(slope) == 0.0)
