"""Flights of swarms as the evaluation flies them, and the same ones by a served controller, all drones in one batch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from drone_cbf.config import BarrierConfig, SensorConfig, SystemConfig
from drone_cbf.controller import ControllerParams, Decision, make_filtered_pilot
from drone_cbf.perception.others import observed
from drone_cbf.perception.sensor_kinds import make_sensor
from drone_cbf.physics.drone import DroneState
from drone_cbf.physics.dynamics import make_dynamics
from drone_cbf.rollout import Trajectory, first_states, make_perceiving, make_rollout, other_errors, seen_at_once
from drone_cbf.scenes.families import make_scene_sampler
from drone_cbf.scenes.scene import Scene, flown_drone
from tests.perception.worlds import random_barrier, random_policy
from tests.swarms import swarm_system

DRONES, STEPS = 4, 40
ROUNDING = 5e-4
"""Of commands up to 1 m/s^2 (positions relative to another origin round otherwise), after 40 steps in closed loop."""
KEY = jax.random.key(8)
SYSTEM = swarm_system(
    DRONES,
    sensor=SensorConfig(kind="lidar", lidar_azimuths=16, lidar_elevations=8, range=1.0, drones=2, length=0.1),
    barrier=BarrierConfig(base="braking", features=8, safety_margin=0.02, reaction_time=0.06, temperature=0.005),
)
"""Each perceives two of the three others at most: the nearest ones."""
PARAMS = ControllerParams(
    policy=random_policy(SYSTEM), barrier=random_barrier(SYSTEM), margin=jnp.float32(0.0), blend=jnp.float32(0.0)
)

Answer = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def swarm_scene_of(system: SystemConfig) -> Scene:
    """A scene of the evaluation, in which drones do meet."""
    config = system.scene.model_copy(update={"gcbf_side": 1.0, "gcbf_obstacles": 2})
    return make_scene_sampler("gcbf_linear", "random", config)(jax.random.key(3))


@functools.cache
def evaluation(system: SystemConfig, noise: float) -> Callable[[ControllerParams, Scene], Trajectory]:
    rollout = make_rollout(system, make_filtered_pilot(system), STEPS)
    return jax.jit(lambda params, scene: rollout(params, scene, jnp.float32(noise), KEY))


def flown_by_answers(answer: Answer, scene: Scene, system: SystemConfig, noise: float) -> list[Mapping[str, Any]]:
    """Answers to all drones at once, step by step: perception and physics are those of the rollout, and nothing else
    is. Gcbf_linear has no wind."""
    sensor, dynamics, dt = make_sensor(system), make_dynamics(system.physics), system.physics.time_step
    count, slots, level = scene.start.shape[0], scene.obstacles.active.shape[0], jnp.float32(noise)
    keys, perceive = jax.random.split(KEY, count), make_perceiving(system)
    seen, steps = seen_at_once(system, count), jnp.arange(STEPS)
    errors = jax.vmap(lambda key: other_errors(level, seen, steps, key, STEPS + 1), out_axes=1)(keys)
    drone = flown_drone(scene, system.physics)

    @jax.jit
    def read(states: DroneState, index: jax.Array):
        def of_one(state: DroneState, key: jax.Array):
            drawn = sensor.draw_errors(level, slots, jax.random.fold_in(key, index))
            return sensor.read(scene.obstacles.at(index * dt), state, jnp.full(3, jnp.nan), index, drawn, level)

        return jax.vmap(of_one)(states, keys), jax.vmap(observed)(perceive(states), errors[index])

    move = jax.jit(jax.vmap(lambda state, command: dynamics.step(state, command, drone)))
    states, answers = first_states(dynamics, sensor, scene), []
    for index in range(STEPS):
        reading, others = jax.device_get(read(states, jnp.int32(index)))
        fields = {
            "position": reading.own.position,
            "velocity": reading.own.velocity,
            "goal": np.asarray(scene.goal),
            "points": np.where(reading.hit[..., None], reading.points, 1e3),
            "mask": np.ones_like(reading.hit),
            "noise": np.full(count, noise),
            "others": np.where(others.seen[..., None], others.position, np.nan),
            "other_velocities": others.velocity,
            "other_mask": others.seen,
        }
        memory = {"memory": answers[-1]["memory"]} if answers else {}
        answers.append(answer({**fields, **memory}))
        states = move(states, jnp.asarray(answers[-1]["command"], jnp.float32))
    return answers


def assert_same_flights(answers: list[Mapping[str, Any]], decisions: Decision) -> None:
    """``decisions``: leading axes drones and steps."""
    for name, field in (("command", "command"), ("nominal_command", "nominal"), ("h", "barrier")):
        served = np.stack([answer[name] for answer in answers], axis=1)
        np.testing.assert_allclose(served, getattr(decisions, field), atol=ROUNDING, rtol=ROUNDING, err_msg=name)
