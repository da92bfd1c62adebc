"""Freezing the policy during the first updates, while the barrier adapts to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp

State = TypeVar("State")
"""A training state with fields ``policy``, ``policy_optimiser`` and ``step``."""


def make_policy_freeze(steps: int) -> Callable[[State, State], State]:
    """Function (state, updated state) -> updated state, with the policy of ``state`` in the first ``steps`` updates.

    The policy's optimiser state is frozen too, so moments and learning-rate schedule start with the policy.
    """

    def freeze(state: State, updated: State) -> State:
        learning = state.step >= steps

        def select(new: jax.Array, old: jax.Array) -> jax.Array:
            return jnp.where(learning, new, old)

        return updated.replace(
            policy=jax.tree.map(select, updated.policy, state.policy),
            policy_optimiser=jax.tree.map(select, updated.policy_optimiser, state.policy_optimiser),
        )

    return freeze if steps else lambda state, updated: updated
