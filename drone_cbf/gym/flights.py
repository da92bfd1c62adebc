"""Episodes as pure functions: begin in a random scene, then one control period for each action.

Physics, sensor, wind and their random numbers are those of :mod:`drone_cbf.rollout`: with the same scene, key and
commands the states are the same. What is new is when an episode ends, and the reward.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from drone_cbf.arrays import Scalar, Vector
from drone_cbf.config import GoalMode, PhysicsConfig, SceneName, SystemConfig
from drone_cbf.objectives.metrics import GOAL_SPEED
from drone_cbf.perception.depth import directed
from drone_cbf.perception.readings import Reading
from drone_cbf.perception.sensor_kinds import make_sensor
from drone_cbf.physics.belief import acting_motion
from drone_cbf.physics.drone import DroneParams, DroneState
from drone_cbf.physics.dynamics import make_dynamics
from drone_cbf.physics.heading import turned
from drone_cbf.physics.obstacles import swept_distances
from drone_cbf.physics.randomisation import gust_history
from drone_cbf.rollout import first_state
from drone_cbf.scenes.families import make_scene_sampler
from drone_cbf.scenes.scene import Scene, flown_drone

EFFORT = 0.002  # Cost of the squared command [m/s^2], per second [s^3/m]
COLLISION = 10.0  # Cost of a collision [m]
ARRIVAL = 10.0  # Reward of arriving [m]


@struct.dataclass
class Episode:
    """An episode under way."""

    drone: DroneState
    scene: Scene
    gusts: Float[Array, "t 3"]  # Deviation of the wind from its mean in each period [m/s]
    key: jax.Array  # Of the sensor's errors
    following: jax.Array  # Key of the episode after this one
    step: Int[Array, ""]  # Periods flown


@struct.dataclass
class Result:
    """What an action led to."""

    reward: Scalar
    collided: Bool[Array, ""]
    arrived: Bool[Array, ""]
    late: Bool[Array, ""]  # The time is up
    distance: Scalar  # To the goal [m]
    clearance: Scalar  # Smallest distance between hull and any surface during the period [m]


@dataclass(frozen=True)
class Flights:
    """Episodes of one family, sensor and drone; for one drone, to be ``vmap``ped."""

    begin: Callable[[jax.Array], tuple[Episode, Reading]]
    """Key -> an episode in a random scene, and its first reading."""
    begin_in: Callable[[Scene, jax.Array, jax.Array], tuple[Episode, Reading]]
    """(scene, key of errors and gusts, key of the next episode) -> the same in that scene."""
    act: Callable[[Episode, Array], tuple[Episode, Reading, Result]]
    """(episode, action) -> the episode one period later, the reading there, and what came of it."""


def action_size(system: SystemConfig) -> int:
    """3: a desired acceleration [m/s^2]; with a camera that looks where the drone heads 4: and a turn [rad]."""
    return 4 if make_sensor(system).directed else 3


def make_flights(system: SystemConfig, family: SceneName, goals: GoalMode, horizon: int, noise: float) -> Flights:
    """Episodes of at most ``horizon`` periods; ``noise``: standard deviation of what is measured [m, m/s]."""
    physics, dt, dynamics = system.physics, system.physics.time_step, make_dynamics(system.physics)
    read, sample = _make_read(system, noise), make_scene_sampler(family, goals, system.scene)
    sensor = make_sensor(system)

    def begin_in(scene: Scene, key: jax.Array, following: jax.Array) -> tuple[Episode, Reading]:
        drone = first_state(dynamics, sensor, scene)
        gusts = gust_history(scene.gust, system.scene.gust_time, dt, horizon, jax.random.fold_in(key, horizon))
        episode = Episode(drone=drone, scene=scene, gusts=gusts, key=key, following=following, step=jnp.int32(0))
        return episode, read(episode)

    def begin(key: jax.Array) -> tuple[Episode, Reading]:
        scene, flight, following = jax.random.split(key, 3)
        return begin_in(sample(scene), flight, following)

    def act(episode: Episode, action: Array) -> tuple[Episode, Reading, Result]:
        air, before = _in_the_air(episode, physics), episode.drone
        after = dynamics.step(before, action[:3], air)
        if sensor.directed:
            after = turned(after, _direction(before, action[3]), physics)
        obstacles = episode.scene.obstacles.at(episode.step * dt)
        clearance = jnp.min(swept_distances(obstacles, before.position, after.position, dt)) - physics.drone_radius
        later = episode.replace(drone=after, step=episode.step + 1)
        command = jnp.clip(action[:3], -air.max_acceleration, air.max_acceleration)
        return later, read(later), _judged(before, later, command, clearance, dt, system.objective.goal_radius)

    return Flights(begin=begin, begin_in=begin_in, act=act)


def _make_read(system: SystemConfig, noise: float) -> Callable[[Episode], Reading]:
    """Function from an episode to what its sensor reads now."""
    sensor, dt, level = make_sensor(system), system.physics.time_step, jnp.float32(noise)

    def read(episode: Episode) -> Reading:
        obstacles, drone, index = episode.scene.obstacles, episode.drone, episode.step
        errors = sensor.draw_errors(level, obstacles.active.shape[0], jax.random.fold_in(episode.key, index))
        place = acting_motion(drone, _in_the_air(episode, system.physics), dt).position
        return sensor.read(obstacles.at(index * dt), drone, place, index, errors, level)

    return read


def _in_the_air(episode: Episode, physics: PhysicsConfig) -> DroneParams:
    """The drone that flies, in the wind of this period; after the last one, in that of the last."""
    gust = episode.gusts[jnp.minimum(episode.step, episode.gusts.shape[0] - 1)]
    return flown_drone(episode.scene, physics).replace(wind=episode.scene.wind + gust)


def _judged(
    before: DroneState, later: Episode, command: Vector, clearance: Scalar, dt: float, goal_radius: float
) -> Result:
    """What came of a period that began ``before``; ``command``: within the limits [m/s^2]."""
    goal, drone = later.scene.goal, later.drone
    was, distance = (jnp.linalg.norm(state.position - goal) for state in (before, drone))
    collided = clearance < 0.0
    arrived = (distance < goal_radius) & (jnp.linalg.norm(drone.velocity) < GOAL_SPEED) & ~collided
    reward = was - distance - EFFORT * dt * jnp.sum(jnp.square(command))
    return Result(
        reward=reward + ARRIVAL * arrived - COLLISION * collided,
        collided=collided,
        arrived=arrived,
        late=later.step >= later.gusts.shape[0],
        distance=distance,
        clearance=clearance,
    )


def _direction(drone: DroneState, turn: Scalar) -> Vector:
    """Where a camera looks that is ``turn`` [rad] to the left of the heading."""
    yaw = directed(drone.yaw) + turn
    return jnp.stack([jnp.cos(yaw), jnp.sin(yaw), jnp.zeros_like(yaw)])
