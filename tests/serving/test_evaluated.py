"""What was evaluated is what is served: the same flights, asked for through the door, command by command."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.config import SceneName
from drone_cbf.controller import ControllerParams, make_filtered_pilot
from drone_cbf.perception.sensor_kinds import make_sensor
from drone_cbf.physics.drone import DroneState, initial_state
from drone_cbf.physics.point_mass import step
from drone_cbf.physics.randomisation import gust_history
from drone_cbf.rollout import Trajectory, make_rollout
from drone_cbf.scenes.families import make_scene_sampler
from drone_cbf.scenes.scene import Scene, flown_drone
from tests.serving.services import ANALYTIC, NEARLY_ANALYTIC, SYSTEM, lidar_service, with_params

STEPS, NOISE = 60, 0.05
ROUNDING = 2e-3
"""Of commands up to 12 m/s^2: positions relative to another origin round otherwise, which 60 steps in closed loop and
the filter's division by its row enlarge."""


def flown_by_answers(answer: Callable[[Mapping[str, Any]], Mapping[str, Any]], scene: Scene, key: jax.Array) -> list:
    """Answers along a flight step by step: sensor, wind and physics are those of the rollout, and nothing else is."""
    physics, dt, sensor = SYSTEM.physics, SYSTEM.physics.time_step, make_sensor(SYSTEM)
    slots, drone = scene.obstacles.active.shape[0], flown_drone(scene, physics)
    gusts = gust_history(scene.gust, SYSTEM.scene.gust_time, dt, STEPS, jax.random.fold_in(key, STEPS))

    @jax.jit
    def read(state: DroneState, index: jax.Array):
        errors = sensor.draw_errors(jnp.float32(NOISE), slots, jax.random.fold_in(key, index))
        nowhere = jnp.full(3, jnp.nan)
        return sensor.read(scene.obstacles.at(index * dt), state, nowhere, index, errors, jnp.float32(NOISE))

    move = jax.jit(lambda state, command, wind: step(state, command, drone.replace(wind=wind), dt))
    state, memory, answers = initial_state(scene.start, scene.start_velocity, physics), None, []
    for index in range(STEPS):
        reading = read(state, jnp.int32(index))
        points = np.where(reading.hit[:, None], reading.points, np.nan)
        own = {"position": reading.own.position, "velocity": reading.own.velocity, "goal": scene.goal}
        cloud = {"points": points, "mask": reading.hit, "noise": NOISE}
        fields = {name: np.asarray(value)[None] for name, value in (own | cloud).items()}
        answers.append(answer({**fields, "memory": memory}))
        memory = answers[-1]["memory"]
        state = move(state, jnp.asarray(answers[-1]["command"][0]), scene.wind + gusts[index])
    return answers


@jax.jit
def evaluated(params: ControllerParams, scene: Scene, key: jax.Array) -> Trajectory:
    return make_rollout(SYSTEM, make_filtered_pilot(SYSTEM), STEPS)(params, scene, jnp.float32(NOISE), key)


@pytest.mark.parametrize("family", ["windows", "boxes"])
@pytest.mark.parametrize("params", [ANALYTIC, NEARLY_ANALYTIC], ids=["analytic", "neural"])
def test_the_served_controller_flies_the_flights_of_the_evaluation(family: SceneName, params: ControllerParams) -> None:
    scene = make_scene_sampler(family, "random", SYSTEM.scene)(jax.random.key(3))
    key = jax.random.key(5)
    decisions = jax.device_get(evaluated(params, scene, key).decisions)
    answers = flown_by_answers(with_params(lidar_service(), params), scene, key)
    for name, field in (("command", "command"), ("nominal_command", "nominal"), ("h", "barrier")):
        served = np.concatenate([answer[name] for answer in answers])
        np.testing.assert_allclose(served, getattr(decisions, field), atol=ROUNDING, rtol=ROUNDING, err_msg=name)
    assert np.linalg.norm(decisions.command, axis=-1).max() > 3.0
