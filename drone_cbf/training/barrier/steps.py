"""Gradient steps of the barrier in an update: the first jointly with the policy, the others on its own losses."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from drone_cbf.arrays import Scalar, ravel_leaves
from drone_cbf.barrier.neural import BarrierParams
from drone_cbf.training.barrier.minibatches import Minibatch, MinibatchLosses, Weights, weighted
from drone_cbf.training.curriculum.adaptation import scale_changes

BarrierTrainState = tuple[BarrierParams, optax.OptState]
"""Parameters and optimiser state."""
BarrierSteps = Callable[
    [BarrierTrainState, BarrierParams, Minibatch | None, Weights, Scalar | None],
    tuple[BarrierTrainState, dict[str, Scalar]],
]
"""(train state, gradient of the joint loss, further minibatches, weights, learning-rate factor) -> (train state,
metrics)."""


def make_barrier_steps(losses: MinibatchLosses, optimiser: optax.GradientTransformation) -> BarrierSteps:
    """One step along the gradient of the joint loss, then one on each further minibatch."""

    def loss(barrier: BarrierParams, minibatch: Minibatch, weights: Weights) -> Scalar:
        return sum(weighted(losses(barrier, minibatch), weights).values(), start=jnp.float32(0.0))

    def step(state: BarrierTrainState, gradient: BarrierParams, rate: Scalar | None) -> BarrierTrainState:
        barrier, optimiser_state = state
        change, optimiser_state = optimiser.update(gradient, optimiser_state, barrier)
        return optax.apply_updates(barrier, scale_changes(change, rate)), optimiser_state

    def steps(
        state: BarrierTrainState,
        gradient: BarrierParams,
        further: Minibatch | None,
        weights: Weights,
        rate: Scalar | None,
    ) -> tuple[BarrierTrainState, dict[str, Scalar]]:
        def further_step(state: BarrierTrainState, minibatch: Minibatch) -> tuple[BarrierTrainState, Scalar]:
            gradient = jax.grad(loss)(state[0], minibatch, weights)
            return step(state, gradient, rate), jnp.sum(~jnp.isfinite(ravel_leaves(gradient)))

        first = step(state, gradient, rate)
        if further is None:
            return first, {}
        last, nonfinite = jax.lax.scan(further_step, first, further)
        return last, {"grad_health/nonfinite_cbf_further": jnp.sum(nonfinite).astype(jnp.float32)}

    return steps
