"""Neural graph control barrier function, and its blend with the analytic one.

Differences from GCBF+ (Zhang et al., T-RO 2025): attention weights are multiplied by a cutoff that vanishes at the
boundary of the graph, and a constant "free space" node takes the remaining attention, so h is continuous when nodes
appear and defined without any. The head is linear, not tanh: h is a distance in metres.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from drone_cbf.arrays import Scalar, beneath
from drone_cbf.barrier.analytic import Barrier, braking_margins, free_margin, make_analytic_barrier
from drone_cbf.config import SystemConfig
from drone_cbf.perception.graphs import EDGE_SCALE, Graph, edge_features, empty_graph, node_weights

BarrierParams = Any  # Variables of `NeuralBarrier`, a flax pytree


SHARPNESS = 8.0  # Of the attention of an untrained barrier to the smaller of two margins [1/m]


class NeuralBarrier(nn.Module):
    """Graph -> h [m]. ``features``: width of the layers; ``base``: what is corrected at each node, (k,) [m];
    ``free_value``: h of empty space [m]; ``length`` [m]: what distances are compared with."""

    features: int
    base: Callable[[Graph], Float[Array, "k"]]
    free_value: Callable[[Graph], Scalar]
    correcting: bool
    length: float = 1.0

    @nn.compact
    def __call__(self, graph: Graph) -> Scalar:
        edges = edge_features(graph)
        hidden = nn.silu(nn.Dense(self.features, name="edge_in")(edges * (jnp.asarray(EDGE_SCALE) / self.length)))
        hidden = hidden + nn.silu(nn.Dense(self.features, name="edge_hidden")(hidden))
        start = nn.initializers.zeros if self.correcting else nn.linear.default_kernel_init
        margin = self.length * nn.Dense(1, name="margin", kernel_init=start)(hidden)[:, 0] + self.base(graph)
        urgency = nn.Dense(1, name="urgency")(hidden)[:, 0] - SHARPNESS / self.length * margin
        message = nn.Dense(self.features, name="message")(hidden)
        # Softmax with the cutoff as prior weight; the last entry is free space, with logit 0 at its own value.
        weights = jnp.append(node_weights(graph), 1.0)
        free = self.free_value(graph)
        logits = jnp.append(urgency, -SHARPNESS / self.length * free)
        logits = beneath(logits, jax.lax.stop_gradient(jnp.max(jnp.where(weights > 0.0, logits, -jnp.inf))))
        # Bounded, so that a node of zero weight cannot give 0 * inf.
        unnormalised = weights * jnp.exp(jnp.minimum(logits, 30.0))
        attention = unnormalised / jnp.sum(unnormalised)
        pooled = attention[:-1] @ message
        correction = nn.Dense(self.features, name="update")(nn.silu(pooled))
        correction = nn.Dense(1, use_bias=False, name="head", kernel_init=nn.initializers.zeros)(nn.silu(correction))[0]
        crowded = 1.0 - attention[-1]
        return jnp.dot(attention, jnp.append(margin, free)) + crowded * self.length * correction


def neural_barrier_module(system: SystemConfig) -> NeuralBarrier:
    """The network described by ``system``."""
    correcting = system.barrier.base == "braking"
    base = partial(braking_margins, system=system) if correcting else lambda graph: edge_features(graph)[:, 6]

    def free_value(graph: Graph) -> Scalar:
        return free_margin(graph.velocity, system, graph.frontier)

    return NeuralBarrier(system.barrier.features, base, free_value, correcting, system.sensor.length)


def initial_barrier_params(system: SystemConfig, key: jax.Array) -> BarrierParams:
    """Untrained parameters; shapes depend on ``system.barrier`` only."""
    return jax.jit(neural_barrier_module(system).init)(key, empty_graph(system.sensor))


def make_neural_barrier(system: SystemConfig) -> Callable[[BarrierParams], Barrier]:
    """Function from parameters to a :data:`Barrier`."""
    apply: Callable[..., Any] = neural_barrier_module(system).apply
    return lambda params: lambda graph: apply(params, graph)


def make_blended_barrier(system: SystemConfig) -> Callable[[BarrierParams, Scalar, Scalar], Barrier]:
    """h = (1 - blend) h_analytic + blend (h_neural - ``barrier.margin_factor`` margin) for ``blend`` in [0, 1]."""
    analytic = make_analytic_barrier(system)
    neural, factor = make_neural_barrier(system), system.barrier.margin_factor

    def blended(params: BarrierParams, margin: Scalar, blend: Scalar) -> Barrier:
        blend = jnp.asarray(blend, jnp.float32)
        return lambda graph: (1.0 - blend) * analytic(graph) + blend * (neural(params)(graph) - factor * margin)

    return blended
