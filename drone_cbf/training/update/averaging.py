"""Running averages of both networks (Polyak and Juditsky 1992, as exponential moving averages).

The average of parameters follows slowly and jumps less from update to update than they do; where a curriculum asks for
it (``learning.ema``), it is what is measured, calibrated and handed on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import struct

from drone_cbf.arrays import Scalar
from drone_cbf.barrier.neural import BarrierParams
from drone_cbf.policy.goal_conditioned import PolicyParams

State = TypeVar("State")
"""A state of training with fields ``policy``, ``barrier`` and ``averages``."""


@struct.dataclass
class Averages:
    """Of the parameters after each update, the one ``k`` updates ago weighted by ``decay^k``; the weights sum to one.

    The parameters before the first update have no weight: the average is not tied to the parent.
    """

    policy: PolicyParams
    barrier: BarrierParams
    updates: Scalar
    """Number of updates averaged; before the first, the averages are the parameters at the start."""


def start_averages(decay: float, policy: PolicyParams, barrier: BarrierParams) -> Averages | None:
    """Before the first update; None where nothing is averaged (``decay`` zero)."""
    return Averages(policy=policy, barrier=barrier, updates=jnp.int32(0)) if decay else None


def make_averaging(decay: float) -> Callable[[State], State]:
    """Function from a state right after an update to that state with its averages moved on."""

    def average(state: State) -> State:
        updates = state.averages.updates + 1
        # The bias-corrected average (Kingma and Ba 2015, section 3) as a step towards the newest parameters.
        # expm1: at the first update the share must be one, or the start would be left in the average.
        share = (1.0 - decay) / -jnp.expm1(updates * math.log(decay))

        def moved(mean: Any, newest: Any) -> Any:
            return jax.tree.map(lambda old, new: old + share * (new - old), mean, newest)

        averages = Averages(
            policy=moved(state.averages.policy, state.policy),
            barrier=moved(state.averages.barrier, state.barrier),
            updates=updates,
        )
        return state.replace(averages=averages)

    return average if decay else lambda state: state


def networks_of(state: Any) -> tuple[PolicyParams, BarrierParams]:
    """What is measured and handed on: the averages where there are any, else the parameters themselves."""
    chosen = state if state.averages is None else state.averages
    return chosen.policy, chosen.barrier


def exported_networks(state: Any) -> Mapping[str, Any]:
    """Content of a checkpoint: the state, and the averages as ``policy`` and ``barrier``, which later stages prefer."""
    if state.averages is None:
        return {"state": state}
    return {"state": state, "policy": state.averages.policy, "barrier": state.averages.barrier}
