"""The steps of the barrier in an update: one together with the policy, the others alone."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from drone_cbf.arrays import Scalar, ravel_leaves
from drone_cbf.barrier.neural import BarrierParams
from drone_cbf.training.barrier.minibatches import Minibatch, MinibatchLosses, Weights, weighted
from drone_cbf.training.curriculum.adaptation import slowed

Taken = tuple[BarrierParams, optax.OptState]
"""The barrier after some steps, and its optimiser's state."""
BarrierSteps = Callable[
    [Taken, BarrierParams, Minibatch | None, Weights, Scalar | None], tuple[Taken, dict[str, Scalar]]
]
"""(before, gradient of the joint loss, further minibatches, weights, factor on the changes) -> (after, figures)."""


def make_barrier_steps(losses: MinibatchLosses, optimiser: optax.GradientTransformation) -> BarrierSteps:
    """The first step follows the gradient of the joint loss, the others that of one further minibatch each."""

    def loss(barrier: BarrierParams, minibatch: Minibatch, weights: Weights) -> Scalar:
        return sum(weighted(losses(barrier, minibatch), weights).values(), start=jnp.float32(0.0))

    def step(before: Taken, gradient: BarrierParams, rate: Scalar | None) -> Taken:
        barrier, memory = before
        change, memory = optimiser.update(gradient, memory, barrier)
        return optax.apply_updates(barrier, slowed(change, rate)), memory

    def steps(
        before: Taken, gradient: BarrierParams, further: Minibatch | None, weights: Weights, rate: Scalar | None
    ) -> tuple[Taken, dict[str, Scalar]]:
        def alone(taken: Taken, minibatch: Minibatch) -> tuple[Taken, Scalar]:
            gradient = jax.grad(loss)(taken[0], minibatch, weights)
            return step(taken, gradient, rate), jnp.sum(~jnp.isfinite(ravel_leaves(gradient)))

        first = step(before, gradient, rate)
        if further is None:
            return first, {}
        last, bad = jax.lax.scan(alone, first, further)
        return last, {"grad_health/nonfinite_cbf_further": jnp.sum(bad).astype(jnp.float32)}

    return steps
