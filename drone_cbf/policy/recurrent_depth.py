"""A policy that sees a depth image alone: convolution, recurrence, and a velocity that it wants to fly.

It is given the image, its own velocity, the direction to the goal and how fast to go there, in the yaw frame; no
obstacle positions, no nodes. What is out of view it must remember. The wanted velocity starts as the straight way to
the goal, and the network adds to it, so that the untrained policy already flies. The camera looks where it wants to go.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from drone_cbf.arrays import Scalar, Vector, safe_norm, saturated, unit
from drone_cbf.config import SystemConfig
from drone_cbf.perception.depth import to_camera, to_world
from drone_cbf.perception.graphs import Graph, empty_graph
from drone_cbf.policy.goal_conditioned import AT_GOAL

HIDDEN = 96  # Width of the recurrence
CHANNELS = (16, 32, 48)
ARRIVAL_TIME = 0.8  # The wanted speed is at most the distance to the goal over this [s]
GRIP = 2.5  # Acceleration per difference to the wanted velocity of the untrained policy [1/s]
AIM = 0.01  # Distance below which the pull towards the goal fades faster than the distance [m]
UNDER_WAY = 0.4  # Wanted speed at which the change has half of its effect, as a multiple of the cruise speed
USUAL_SPEED = 6.0  # Scales the cruise speed to order one for the network [m/s]
LARGEST_CHANGE = 1.0  # Largest change of the wanted velocity along each axis, as a multiple of the cruise speed


@struct.dataclass
class DepthMemory:
    """What the policy remembers."""

    hidden: Float[Array, "h"]
    chosen: Vector  # Velocity wanted in the last step, world frame [m/s]
    cruise: Scalar  # How fast to fly, the same throughout a flight [m/s]


def no_memory(cruise: Scalar | float) -> DepthMemory:
    """Before the first step of a flight at ``cruise`` [m/s]."""
    hidden, chosen = jnp.zeros(HIDDEN, jnp.float32), jnp.zeros(3, jnp.float32)
    return DepthMemory(hidden=hidden, chosen=chosen, cruise=jnp.asarray(cruise, jnp.float32))


class RecurrentDepthPolicy(nn.Module):
    """(memory, graph) -> (memory, command). Reads only the graph's image, yaw, goal, and own velocity and drag."""

    max_acceleration: tuple[float, float, float]

    @nn.compact
    def __call__(self, memory: DepthMemory, graph: Graph) -> tuple[DepthMemory, Vector]:
        assert graph.image is not None and graph.yaw is not None, "sensor.kind = depth gives both"
        distance = safe_norm(graph.goal)
        cruise = memory.cruise
        speed = jnp.minimum(cruise, distance / ARRIVAL_TIME)
        direction = to_camera(unit(graph.goal, AT_GOAL), graph.yaw)
        own = to_camera(graph.velocity, graph.yaw) / cruise
        # What is far enough to be left alone at one speed is not at another: hence the speed itself as well.
        pace = jnp.stack([speed / cruise, cruise / USUAL_SPEED])
        given = jnp.concatenate([self._seen(graph.image), own, direction, pace])
        hidden, _ = nn.GRUCell(HIDDEN, name="memory")(memory.hidden, nn.silu(nn.Dense(HIDDEN, name="mix")(given)))
        out = nn.Dense(4, name="head", kernel_init=nn.initializers.variance_scaling(0.01, "fan_in", "normal"))(hidden)
        # Near the goal nothing is in the way: there the change is the smaller part, whatever it is, so that the drone
        # comes to rest at the goal and not beside it.
        under_way = speed**2 / (speed**2 + (UNDER_WAY * cruise) ** 2)
        change = LARGEST_CHANGE * cruise * under_way * jnp.tanh(out[:3])
        chosen = speed * unit(graph.goal, AIM) + to_world(change, graph.yaw)
        grip = GRIP * nn.softplus(out[3] + 0.54)
        wanted = grip * (chosen - graph.velocity) - graph.drag
        return memory.replace(hidden=hidden, chosen=chosen), saturated(wanted, self.max_acceleration)

    def _seen(self, image: Float[Array, "12 16"]) -> Float[Array, "f"]:
        """Features of the image."""
        layer = image[:, :, None]
        for index, (channels, stride) in enumerate(zip(CHANNELS, (2, 2, 1), strict=True)):
            padding = "SAME" if stride == 2 else "VALID"
            layer = nn.silu(nn.Conv(channels, (3, 3), strides=stride, padding=padding, name=f"conv_{index}")(layer))
        return layer.reshape(-1)


def policy_module(system: SystemConfig) -> RecurrentDepthPolicy:
    """The network described by ``system``."""
    return RecurrentDepthPolicy(max_acceleration=system.physics.reach)


def initial_policy_params(system: SystemConfig, key: jax.Array) -> Any:
    """Untrained parameters."""
    return jax.jit(policy_module(system).init)(key, no_memory(system.objective.max_speed), empty_graph(system.sensor))
