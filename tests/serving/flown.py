"""Flights of the evaluation, and the same ones by a served controller."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from drone_cbf.config import SceneName, SystemConfig
from drone_cbf.controller import ControllerParams, Decision, make_filtered_pilot
from drone_cbf.perception.sensor_kinds import make_sensor
from drone_cbf.physics.drone import DroneState, initial_state
from drone_cbf.physics.dynamics import make_dynamics
from drone_cbf.physics.randomisation import gust_history
from drone_cbf.rollout import Trajectory, make_rollout
from drone_cbf.scenes.families import make_scene_sampler
from drone_cbf.scenes.scene import Scene, flown_drone

STEPS, NOISE = 60, 0.05
ROUNDING = 2e-3
"""Of commands up to 12 m/s^2: positions relative to another origin round otherwise, which 60 steps in closed loop and
the filter's division by its row enlarge."""
KEY = jax.random.key(5)

Answer = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def scene_of_family(family: SceneName, system: SystemConfig) -> Scene:
    return make_scene_sampler(family, "random", system.scene)(jax.random.key(3))


@functools.cache
def evaluation(system: SystemConfig) -> Callable[[ControllerParams, Scene], Trajectory]:
    """The flight as the evaluation flies it."""
    rollout = make_rollout(system, make_filtered_pilot(system), STEPS)
    return jax.jit(lambda params, scene: rollout(params, scene, jnp.float32(NOISE), KEY))


def flown_by_answers(answer: Answer, scene: Scene, system: SystemConfig) -> list[Mapping[str, Any]]:
    """Answers along a flight step by step: sensor, wind and physics are those of the rollout, and nothing else is."""
    physics, dt, sensor = system.physics, system.physics.time_step, make_sensor(system)
    slots, drone = scene.obstacles.active.shape[0], flown_drone(scene, physics)
    gusts = gust_history(scene.gust, system.scene.gust_time, dt, STEPS, jax.random.fold_in(KEY, STEPS))

    @jax.jit
    def read(state: DroneState, index: jax.Array):
        errors = sensor.draw_errors(jnp.float32(NOISE), slots, jax.random.fold_in(KEY, index))
        nowhere = jnp.full(3, jnp.nan)
        return sensor.read(scene.obstacles.at(index * dt), state, nowhere, index, errors, jnp.float32(NOISE))

    move = jax.jit(lambda state, command, wind: make_dynamics(physics).step(state, command, drone.replace(wind=wind)))
    state, memory, answers = initial_state(scene.start, scene.start_velocity, physics), None, []
    for index in range(STEPS):
        reading = read(state, jnp.int32(index))
        # A ray without a return is a point beyond the sensing radius: no points at all would mean a blind sensor.
        points = np.where(reading.hit[:, None], reading.points, 1e3)
        own = {"position": reading.own.position, "velocity": reading.own.velocity, "goal": scene.goal}
        cloud = {"points": points, "mask": np.ones(len(points), bool), "noise": NOISE}
        fields = {name: np.asarray(value)[None] for name, value in (own | cloud).items()}
        answers.append(answer(fields if memory is None else {**fields, "memory": memory}))
        memory = answers[-1]["memory"]
        state = move(state, jnp.asarray(answers[-1]["command"][0], jnp.float32), scene.wind + gusts[index])
    return answers


def assert_same_flight(answers: list[Mapping[str, Any]], decisions: Decision) -> None:
    for name, field in (("command", "command"), ("nominal_command", "nominal"), ("h", "barrier")):
        served = np.concatenate([answer[name] for answer in answers])
        np.testing.assert_allclose(served, getattr(decisions, field), atol=ROUNDING, rtol=ROUNDING, err_msg=name)
