"""The policy stays as it is while the barrier catches up with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp

State = TypeVar("State")
"""A state of training with fields ``policy``, ``policy_optimiser`` and ``step``."""


def make_freeze(steps: int) -> Callable[[State, State], State]:
    """Function (state, state after an update) -> the latter, in the first ``steps`` updates with the former's policy.

    The policy's optimiser stays as well, moments and schedule: it begins when the policy does.
    """

    def frozen(state: State, following: State) -> State:
        learning = state.step >= steps

        def held(new: jax.Array, old: jax.Array) -> jax.Array:
            return jnp.where(learning, new, old)

        return following.replace(
            policy=jax.tree.map(held, following.policy, state.policy),
            policy_optimiser=jax.tree.map(held, following.policy_optimiser, state.policy_optimiser),
        )

    return frozen if steps else lambda state, following: following
