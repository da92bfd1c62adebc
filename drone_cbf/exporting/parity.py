"""Whether an exported policy answers as the served one: a flight by the served one, and the same observations again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from drone_cbf.config import SceneName, SystemConfig
from drone_cbf.errors import ExportError
from drone_cbf.exporting.drone_policy import Policy
from drone_cbf.perception.depth import as_image, directed, make_depths
from drone_cbf.perception.sensor_kinds import make_sensor
from drone_cbf.physics.drone import DroneState
from drone_cbf.physics.dynamics import make_dynamics
from drone_cbf.physics.heading import turned
from drone_cbf.physics.randomisation import gust_history
from drone_cbf.rollout import first_state
from drone_cbf.scenes.families import make_scene_sampler
from drone_cbf.scenes.scene import Scene, flown_drone
from drone_cbf.serving.fields import other_slots

UNSEEN = 1e3  # Distance at which a ray without a return is said to end, beyond every sensing radius [m]
COMPARED = ("command", "nominal_command", "h", "look")

Answer = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Fields of a batch of observations -> fields of the answers, as a served policy takes and gives them."""


@dataclass(frozen=True)
class ParityFlight:
    """A flight to compare by."""

    family: SceneName = "boxes"
    steps: int = 120
    noise: float = 0.02
    """Standard deviation of own position and velocity and of ranges [m, m/s]."""
    seed: int = 0


@dataclass(frozen=True)
class Deviation:
    """How far answers are from those of the served policy over a flight."""

    largest: Mapping[str, float]  # By field: commands and their directions per axis [m/s^2], h [m]
    step: int  # At which the command is farthest
    statuses: int  # Steps with another status: where the nominal command nearly meets the row, rounding decides


def fly_served(
    answer: Answer, system: SystemConfig, flight: ParityFlight
) -> tuple[list[dict[str, Any]], list[Mapping[str, Any]]]:
    """Observations of a flight by ``answer``, without memories, and its answers, step by step.

    A policy trained with ``sensor.kind`` surfaces is given the points of a range scanner, as every served one.
    """
    scene = make_scene_sampler(flight.family, "random", system.scene)(jax.random.key(flight.seed))
    physics, dt, key = system.physics, system.physics.time_step, jax.random.key(flight.seed + 1)
    dynamics = make_dynamics(physics)
    observe, drone = jax.jit(_make_observe(system, scene, flight, key)), flown_drone(scene, physics)
    gusts = gust_history(scene.gust, system.scene.gust_time, dt, flight.steps, jax.random.fold_in(key, flight.steps))

    @jax.jit
    def move(state: DroneState, command: jax.Array, look: jax.Array, gust: jax.Array) -> DroneState:
        following = dynamics.step(state, command, drone.replace(wind=scene.wind + gust))
        return turned(following, look, physics)

    state = first_state(dynamics, make_sensor(system), scene)
    asked: list[dict[str, Any]] = []
    answers: list[Mapping[str, Any]] = []
    for index in range(flight.steps):
        asked.append({name: np.asarray(value)[None] for name, value in observe(state, jnp.int32(index)).items()})
        memory = {"memory": answers[-1]["memory"]} if answers else {}
        answers.append(answer({**asked[-1], **memory}))
        command, look = (np.asarray(answers[-1].get(name, np.zeros((1, 3))))[0] for name in ("command", "look"))
        state = move(state, jnp.asarray(command, jnp.float32), jnp.asarray(look, jnp.float32), gusts[index])
    return asked, answers


def _make_observe(
    system: SystemConfig, scene: Scene, flight: ParityFlight, key: jax.Array
) -> Callable[[DroneState, jax.Array], dict[str, jax.Array]]:
    """Function (true state, step) -> fields of one observation."""
    kind = "lidar" if system.sensor.kind == "surfaces" else system.sensor.kind
    config = system.sensor.model_copy(update={"kind": kind})
    sensor, dt = make_sensor(system.model_copy(update={"sensor": config})), system.physics.time_step
    slots, noise = scene.obstacles.active.shape[0], jnp.float32(flight.noise)

    def observe(state: DroneState, index: jax.Array) -> dict[str, jax.Array]:
        obstacles = scene.obstacles.at(index * dt)
        errors = sensor.draw_errors(noise, slots, jax.random.fold_in(key, index))
        reading = sensor.read(obstacles, state, state.position, index, errors, noise)
        own = {"position": reading.own.position, "velocity": reading.own.velocity, "goal": scene.goal, "noise": noise}
        if other_slots(system):
            own |= _met(scene, index / flight.steps, flight.steps * dt)
        if kind == "depth":
            yaw = directed(state.yaw)
            return {**own, "image": as_image(make_depths(config)(obstacles, state.position, yaw)), "yaw": yaw}
        # No points at all would mean a blind sensor.
        points = jnp.where(reading.hit[:, None], reading.points, UNSEEN)
        return {**own, "points": points, "mask": jnp.ones_like(reading.hit)}

    return observe


def _met(scene: Scene, share: jax.Array, duration: float) -> dict[str, jax.Array]:
    """Another drone, which flies straight from the goal to the start meanwhile; ``share`` of the ``duration`` [s]."""
    way = scene.start - scene.goal
    return {"others": (scene.goal + share * way)[None], "other_velocities": (way / duration)[None]}


def deviation(policy: Policy, asked: list[dict[str, Any]], answers: list[Mapping[str, Any]]) -> Deviation:
    """How far ``policy``, with a memory of its own, is from ``answers`` to the same observations."""
    memory, own = None, []
    for fields in asked:
        answer, memory = policy(memory, **fields)
        own.append(answer)
    largest, worst = {}, 0
    for name in COMPARED:
        if name in answers[0]:
            served, exported = (np.stack([np.asarray(one[name])[0] for one in each]) for each in (answers, own))
            gap = np.abs(served - exported).reshape(len(asked), -1).max(axis=1)
            gap = np.where(np.isnan(gap), np.inf, gap)
            largest[name] = float(gap.max())
            worst = int(gap.argmax()) if name == "command" else worst
    others = sum(str(one["status"][0]) != str(served["status"][0]) for one, served in zip(own, answers, strict=True))
    return Deviation(largest=largest, step=worst, statuses=others)


def refuse_deviation(form: str, found: Deviation, tolerance: float) -> None:
    """Raises ExportError if a command deviates by more than ``tolerance`` [m/s^2] along an axis."""
    largest = found.largest["command"]
    if not largest <= tolerance:
        raise ExportError(
            f"the exported {form} commands otherwise than the served policy: by {largest:.3g} m/s^2 at step "
            f"{found.step}, allowed {tolerance:g}; nothing was logged. Export with the code of the version's commit, "
            "or register the policy again with this one"
        )
