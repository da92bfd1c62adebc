"""Exponential moving averages of both networks (Polyak and Juditsky 1992). If a curriculum asks for them
(``learning.ema``), the averages are what is measured, calibrated and exported."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import struct

from drone_cbf.arrays import Scalar
from drone_cbf.barrier.neural import BarrierParams
from drone_cbf.policy.policies import PolicyParams

State = TypeVar("State")
"""A training state with fields ``policy``, ``barrier`` and ``averages``."""


@struct.dataclass
class Averages:
    """Averages over the parameters after each update; those ``k`` updates ago weigh ``decay^k``, normalised. Those
    before the first update have no weight, so the averages are not tied to the parent."""

    policy: PolicyParams
    barrier: BarrierParams
    updates: Scalar
    """Number of averaged updates; before the first, the averages are the initial parameters."""


def initial_averages(decay: float, policy: PolicyParams, barrier: BarrierParams) -> Averages | None:
    """Averages before the first update; None if ``decay`` is zero."""
    return Averages(policy=policy, barrier=barrier, updates=jnp.int32(0)) if decay else None


def make_averaging(decay: float) -> Callable[[State], State]:
    """Function that updates the averages of a state after an update."""

    def average(state: State) -> State:
        updates = state.averages.updates + 1
        # The bias-corrected average (Kingma and Ba 2015, section 3) as a step towards the newest parameters.
        # expm1: at the first update the share must be exactly one, or the initial parameters would stay in the average.
        share = (1.0 - decay) / -jnp.expm1(updates * math.log(decay))
        before, newest = (state.averages.policy, state.averages.barrier), (state.policy, state.barrier)
        policy, barrier = jax.tree.map(lambda old, new: old + share * (new - old), before, newest)
        return state.replace(averages=Averages(policy=policy, barrier=barrier, updates=updates))

    return average if decay else lambda state: state


def networks_of(state: Any) -> tuple[PolicyParams, BarrierParams]:
    """Policy and barrier to measure and export: the averages if there are any, else the parameters."""
    chosen = state if state.averages is None else state.averages
    return chosen.policy, chosen.barrier


def exported_networks(state: Any) -> Mapping[str, Any]:
    """Content of a checkpoint: the state and, if averaged, the averages as ``policy`` and ``barrier``."""
    if state.averages is None:
        return {"state": state}
    return {"state": state, "policy": state.averages.policy, "barrier": state.averages.barrier}
