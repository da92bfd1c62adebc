"""Trajectories written by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from drone_cbf.config import SystemConfig
from drone_cbf.controller import Decision
from drone_cbf.perception.graphs import empty_graph
from drone_cbf.physics.drone import DroneState
from drone_cbf.physics.dynamics import make_dynamics
from drone_cbf.rollout import Trajectory
from drone_cbf.safety.records import Status


def flight(system: SystemConfig, points, velocities=None, commands=None, **decisions) -> Trajectory:
    """A flight through ``points`` (t + 1, 3); at rest at each unless ``velocities`` say otherwise."""
    points = np.asarray(points, np.float32)
    steps = len(points) - 1
    velocities = np.zeros_like(points) if velocities is None else np.asarray(velocities, np.float32)
    commands = np.zeros((steps, 3), np.float32) if commands is None else np.asarray(commands, np.float32)
    states = DroneState(
        position=points,
        velocity=velocities,
        thrust=np.zeros((steps + 1, 3), np.float32),
        queue=np.zeros((steps + 1, make_dynamics(system.physics).queue, 3), np.float32),
    )
    made = {
        "command": jnp.asarray(commands),
        "nominal": jnp.asarray(commands),
        "barrier": jnp.asarray(np.ones(steps, np.float32)),
        "slack": jnp.asarray(np.zeros(steps, np.float32)),
        "status": jnp.asarray(np.full(steps, Status.NOMINAL, np.int32)),
    } | {name: jnp.asarray(value) for name, value in decisions.items()}

    return Trajectory(
        states=jax.tree.map(lambda value: jnp.asarray(value[:steps]), states),
        graphs=empty_graph(system.sensor),
        decisions=Decision(**made),
        last=jax.tree.map(lambda value: jnp.asarray(value[steps]), states),
        wind=jnp.asarray(np.zeros((steps, 3), np.float32)),
    )
