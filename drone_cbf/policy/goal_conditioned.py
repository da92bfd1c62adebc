"""A memoryless goal-conditioned policy over the graph."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from drone_cbf.arrays import Scalar, Vector, largest_entry, safe_norm, saturated, unit
from drone_cbf.config import SystemConfig
from drone_cbf.perception.graphs import EDGE_SCALE, Graph, edge_features, empty_graph, node_weights

PolicyParams = Any  # Variables of `GoalPolicy`, a flax pytree
Policy = Callable[..., Vector]
"""(parameters, graph, cruise speed [m/s] or None for the configured one) -> nominal command [m/s^2]"""


AT_GOAL = 0.5  # Distance below which the direction to the goal fades [m], so that hovering does not amplify millimetres


class GoalPolicy(nn.Module):
    """Tracks a velocity towards the goal and adds an avoidance acceleration per obstacle.

    Learned scalars depend on rotation invariants (distances, speeds, angles) and multiply geometric directions: away
    from the node, around it towards the goal, against the motion, up. The policy is therefore equivariant to the
    heading until an axis saturates, and its approach to the goal is a spring-damper.

    ``length`` [m] is what distances, and speeds per second, are compared with. In a ``swarm`` it is told which nodes
    are drones, and may pass these on one side: two that meet head-on see mirror images, and only a side that all agree
    on in advance lets them pass. In the plane it may pass obstacles so too: before a flat face there is no other way
    around, as there is over it in space.
    """

    features: int
    node_features: int
    goal_scale: float
    cruise_speed: float
    max_acceleration: tuple[float, float, float]
    length: float = 1.0
    swarm: bool = False

    @nn.compact
    def __call__(self, graph: Graph, told: Scalar | None = None) -> Vector:
        """``told``: how fast to fly [m/s]; None for ``cruise_speed``."""
        cruise = self.cruise_speed if told is None else told
        distance = safe_norm(graph.goal)
        far = graph.goal / (distance + self.goal_scale)
        speed = safe_norm(graph.velocity)
        scalars = [distance / (distance + self.goal_scale), jnp.exp(-distance / self.length), speed / cruise]
        ahead = jnp.dot(unit(graph.goal, AT_GOAL * self.length), graph.velocity)
        own = jnp.stack([*scalars, ahead / cruise])
        messages, push = self._obstacles(graph, own, cruise)
        hidden = nn.silu(nn.Dense(self.features, name="trunk_in")(jnp.concatenate([own, messages])))
        hidden = hidden + nn.silu(nn.Dense(self.features, name="trunk_hidden")(hidden))
        pace, grip = nn.softplus(nn.Dense(2, name="gains", kernel_init=nn.initializers.zeros)(hidden) + 0.54)
        wanted = 2.5 * grip * (pace * cruise * far - graph.velocity) - graph.drag + push
        return saturated(wanted, self.max_acceleration)

    def _obstacles(
        self, graph: Graph, own: Float[Array, "f"], cruise: Scalar | float
    ) -> tuple[Float[Array, "g"], Vector]:
        """Pooled messages for the trunk, and the summed avoidance acceleration [m/s^2]."""
        away = unit(graph.relative_position)
        towards = unit(graph.goal, AT_GOAL * self.length)
        along = jnp.sum(away * towards, -1, keepdims=True)
        around = towards - along * away
        edges = edge_features(graph) * (jnp.asarray(EDGE_SCALE) / self.length)
        receding = jnp.sum(away * graph.relative_velocity, -1, keepdims=True) / cruise
        lateral = graph.relative_velocity - cruise * receding * away
        context = jnp.broadcast_to(own, (edges.shape[0], own.shape[0]))
        invariant = [edges[:, 6:], along, receding, safe_norm(lateral)[:, None] / cruise, context]
        drone = graph.is_drone[:, None]
        invariant += [drone.astype(jnp.float32)] if self.swarm else []
        message = nn.silu(nn.Dense(self.node_features, name="message_in")(jnp.concatenate(invariant, -1)))
        message = message + nn.silu(nn.Dense(self.node_features, name="message_out")(message))
        weights = node_weights(graph)[:, None]
        pooled = jnp.concatenate([jnp.sum(weights * message, 0), largest_entry(weights * message, axis=0)])
        start = nn.initializers.variance_scaling(0.01, "fan_in", "normal")
        up = jnp.broadcast_to(jnp.array([0.0, 0.0, 1.0]), away.shape)
        ways = [away, around, lateral / cruise, up]
        passed = drone | (self.max_acceleration[2] == 0.0)
        ways += [jnp.where(passed, jnp.cross(up, away), 0.0)] if self.swarm else []
        amount = weights * nn.Dense(len(ways), name="push", kernel_init=start)(message)
        return pooled, 10.0 * self.length * jnp.einsum("kd,kdx->x", amount, jnp.stack(ways, 1))


def policy_module(system: SystemConfig) -> GoalPolicy:
    """The network described by ``system``."""
    return GoalPolicy(
        features=system.policy.features,
        node_features=system.policy.node_features,
        goal_scale=system.policy.goal_scale,
        cruise_speed=system.cruise_speed,
        max_acceleration=system.physics.reach,
        length=system.sensor.length,
        swarm=system.scene.drones > 1,
    )


def initial_policy_params(system: SystemConfig, key: jax.Array) -> PolicyParams:
    """Untrained parameters."""
    return jax.jit(policy_module(system).init)(key, empty_graph(system.sensor))


def make_policy(system: SystemConfig) -> Policy:
    """Function (parameters, graph, cruise speed) -> nominal command within the limits of each axis."""
    apply: Callable[..., Any] = policy_module(system).apply
    return apply
