"""The simulator's drone against scipy's integrator."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from tests.simulator.drone import Drone, fly_period, hovering

PERIODS = 12
SPLITTING = 2e-5
"""[m, m/s]: second order in the step of 1 ms, times accelerations of up to 20 m/s^2."""


def flown(drone: Drone, commands: np.ndarray) -> np.ndarray:
    """Position and velocity (periods, b, 6) after each of ``commands`` (periods, b, 3)."""
    motion, result = hovering(np.zeros((commands.shape[1], 3)), drone), []
    for command in commands:
        motion, track = fly_period(motion, command, drone)
        np.testing.assert_array_equal(track[:, -1], motion.position)
        result.append(np.concatenate([motion.position, motion.velocity], axis=-1))
    return np.array(result)


def integrated(drone: Drone, commands: np.ndarray) -> np.ndarray:
    """The same for one flight (periods, 6), by an adaptive method between the times at which anything switches."""
    limit = np.array(drone.limit)

    def slope(_: float, state: np.ndarray, acting: np.ndarray) -> np.ndarray:
        velocity, thrust = state[3:6], state[6:]
        drag = (drone.linear_drag + drone.quadratic_drag * np.linalg.norm(velocity)) * velocity
        return np.concatenate([velocity, thrust - drag, (acting - thrust) / drone.lag])

    ends = np.arange(1, len(commands) + 1) * drone.period
    arrivals = np.arange(len(commands)) * drone.period + drone.delay
    times = np.unique(np.round(np.concatenate([[0.0], ends, arrivals]), 9))
    state, at = np.zeros(9), {}
    for begin, end in itertools.pairwise(times):
        arrived = int((arrivals <= begin + 1e-9).sum())
        acting = np.clip(commands[arrived - 1], -limit, limit) if arrived else np.zeros(3)
        state = solve_ivp(slope, (begin, end), state, args=(acting,), rtol=1e-11, atol=1e-12).y[:, -1]
        at[end] = state[:6]
    return np.array([at[round(end, 9)] for end in ends])


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.05, 0.08, 0.13])
def test_lag_delay_drag_and_limits_agree_with_the_differential_equation(delay: float) -> None:
    drone = Drone(delay=delay, quadratic_drag=0.05)
    commands = np.random.default_rng(0).uniform(-18.0, 18.0, (PERIODS, 2, 3))
    actual = flown(drone, commands)
    for flight in range(2):
        np.testing.assert_allclose(actual[:, flight], integrated(drone, commands[:, flight]), atol=SPLITTING, rtol=0)


def test_a_thrust_that_falls_away_from_rest_follows_the_lag_without_drag() -> None:
    drone = Drone(delay=0.0, linear_drag=0.0, quadratic_drag=0.0)
    actual = flown(drone, np.full((PERIODS, 1, 3), (0.0, 0.0, -5.0)))[:, 0]
    time = drone.period * np.arange(1, PERIODS + 1)
    velocity = -5.0 * (time + drone.lag * np.expm1(-time / drone.lag))
    position = -5.0 * (0.5 * time**2 - drone.lag * (time + drone.lag * np.expm1(-time / drone.lag)))
    np.testing.assert_allclose(actual[:, 5], velocity, rtol=1e-12)
    np.testing.assert_allclose(actual[:, 2], position, rtol=1e-12)


def test_half_the_step_leaves_a_quarter_of_the_error() -> None:
    commands = np.random.default_rng(1).uniform(-12.0, 12.0, (PERIODS, 1, 3))
    errors = []
    for step in (0.01, 0.005):
        drone = Drone(step=step, quadratic_drag=0.1)
        errors.append(np.abs(flown(drone, commands)[-1, 0] - integrated(drone, commands[:, 0])[-1]).max())
    assert 3.5 < errors[0] / errors[1] < 4.5
