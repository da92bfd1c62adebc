"""Point mass with thrust lag, transport delay and drag, in steps of a millisecond.

Within a step the equation v' = a - (k1 + k2 |v|) v, T a' = u - a is split in two parts with closed solutions, drag
alone and motion without drag, applied as half, whole, half (Strang): of second order in the step. Along the direction
of v, drag alone is s' = -k1 s - k2 s^2, which Bernoulli's substitution 1/s makes linear.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Drone:
    """Constants of the drone and of its control loop. Delay and period are whole numbers of steps."""

    lag: float = 0.08
    """Time constant of the thrust, T [s]."""
    delay: float = 0.05
    """From sending a command until it acts on the thrust [s]."""
    linear_drag: float = 0.3
    """k1 [1/s]."""
    quadratic_drag: float = 0.01
    """k2 [1/m]."""
    limit: tuple[float, float, float] = (12.0, 12.0, 8.0)
    """Largest command along each axis [m/s^2]; commands are clipped to it."""
    period: float = 0.05
    """Between commands [s]."""
    step: float = 0.001
    """Of the integration, and between checks for collisions [s]."""
    radius: float = 0.12
    """Of the hull, a sphere [m]."""

    @property
    def steps_per_period(self) -> int:
        return round(self.period / self.step)

    def age(self, index: int) -> int:
        """How many periods before the latest one the command was sent that acts in step ``index`` of a period."""
        return max(0, math.ceil((round(self.delay / self.step) - index) / self.steps_per_period))


@dataclass(frozen=True)
class Motion:
    """State of ``b`` drones."""

    position: np.ndarray  # (b, 3) [m]
    velocity: np.ndarray  # (b, 3) [m/s]
    thrust: np.ndarray  # (b, 3) Acceleration by the rotors, gravity compensated [m/s^2]
    sent: tuple[np.ndarray, ...]  # Commands that have not acted to the end, newest first, each (b, 3) [m/s^2]


def hovering(position: np.ndarray, drone: Drone) -> Motion:
    """At rest at ``position`` (b, 3), with no command under way."""
    still = np.zeros_like(position)
    return Motion(position, still, still, (still,) * drone.age(0))


def fly_period(motion: Motion, command: np.ndarray, drone: Drone) -> tuple[Motion, np.ndarray]:
    """The motion one period after ``command`` (b, 3) is sent, and the positions after each step (b, s, 3)."""
    sent = (np.clip(command, -np.array(drone.limit), drone.limit), *motion.sent)
    track = np.empty((len(command), drone.steps_per_period, 3))
    for index in range(drone.steps_per_period):
        motion = _advance(motion, sent[drone.age(index)], drone)
        track[:, index] = motion.position
    return replace(motion, sent=sent[: len(motion.sent)]), track


def _advance(motion: Motion, acting: np.ndarray, drone: Drone) -> Motion:
    """One step under a constant command. Without drag: a = u + c e, v = v0 + u t + c T (1 - e), and p its integral,
    with c = a0 - u and e = exp(-t/T)."""
    time, lag = drone.step, drone.lag
    left = math.exp(-time / lag)
    velocity = _slowed(motion.velocity, 0.5 * time, drone)
    change = motion.thrust - acting
    gained = lag * (1.0 - left)
    position = motion.position + time * velocity + 0.5 * time**2 * acting + lag * (time - gained) * change
    velocity = _slowed(velocity + time * acting + gained * change, 0.5 * time, drone)
    return Motion(position, velocity, acting + left * change, motion.sent)


def _slowed(velocity: np.ndarray, time: float, drone: Drone) -> np.ndarray:
    """Velocity after ``time`` [s] of drag alone."""
    decay = math.exp(-drone.linear_drag * time)
    elapsed = (1.0 - decay) / drone.linear_drag if drone.linear_drag else time
    speed = np.sqrt(np.square(velocity).sum(-1, keepdims=True))
    return velocity * (decay / (1.0 + drone.quadratic_drag * elapsed * speed))
