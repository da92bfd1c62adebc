"""What a curriculum sets about learning and watching: one switch or weight for every mechanism of joint training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from drone_cbf.config import Fraction, Section

LossName = Literal["cbf_value", "cbf_gradient", "cbf_safe", "cbf_unsafe", "cbf_hdot", "distill", "policy_l2"]
Weight = Annotated[float, Field(ge=0.0, le=1e6)]


class LossWeights(Section):
    """Weights of what the networks learn from beside the flight's own loss. Zero switches a term off."""

    cbf_value: Weight = 1.0
    """Squared error of the barrier's value against the analytic teacher."""
    cbf_gradient: Weight = 1.0
    """Squared error of its gradient, likewise."""
    cbf_safe: Weight = 0.0
    """(epsilon - h)+ on states labelled safe (GCBF+)."""
    cbf_unsafe: Weight = 0.0
    """(epsilon + h)+ on states labelled unsafe (GCBF+)."""
    cbf_hdot: Weight = 0.0
    """(epsilon - dh/dt - alpha h)+ over the true next graph (GCBF+)."""
    distill: Weight = 0.0
    """Squared difference of the nominal command from the parent policy's, on the states flown."""
    policy_l2: Weight = 0.0
    """Squared distance of the policy's parameters from the parent's."""


class Learning(Section):
    """How the two networks learn, beside the weights of the losses."""

    weights: LossWeights = LossWeights()
    """Of the losses; a stage may change single ones."""
    epsilon: float = Field(0.02, ge=0.0, le=1.0)
    """Room asked of the barrier by ``cbf_safe``, ``cbf_unsafe`` and ``cbf_hdot`` [m, m/s]."""
    look_ahead: float = Field(1.0, ge=0.0, le=30.0)
    """A state is safe if nothing is hit for this long after it [s]; nearer the flight's end it has no label."""
    replay: Fraction = 0.0
    """Fraction of the barrier's states that come from kept flights: unsafe, hard, or flown on slack. 0: none are kept."""
    replay_flights: int = Field(64, ge=1, le=4096)
    """Flights that are kept."""
    freeze_steps: int = Field(0, ge=0, le=100_000)
    """Updates at the beginning in which the policy stays as it is and the barrier learns alone."""
    ema: float = Field(0.0, ge=0.0, lt=1.0)
    """Decay per update of the running averages of both networks, which are then measured and handed on; 0: none."""
    balance: Literal["sum", "mgda"] = "sum"
    """How the policy weighs efficiency against safety: by the objective's weights, or by the common descent direction of
    smallest norm (MGDA, Desideri 2012)."""
    barrier_task_gradient: Fraction | None = None
    """Weight of the task gradient that reaches the barrier through the filter; none: as the safety stage is told."""
    filtered: bool = True
    """false: flights are trained without the filter, by the clearance terms alone (DiffPhysDrone)."""


class Monitor(Section):
    """Regular measurement during training, under the conditions of the stage under way, and what follows from it."""

    every: int = Field(0, ge=0, le=100_000)
    """Updates between two measurements; 0: only at the end of each stage."""
    flights: int = Field(96, ge=1, le=100_000)
    """Flights of one measurement."""
    robust_flights: int = Field(96, ge=0, le=100_000)
    """Flights with a drone drawn at random (mass, drag, lag) and stronger wind, beside them: ``robust/*``; 0: none."""
    patience: int = Field(2, ge=0, le=1000)
    """Failed measurements in a row that are borne; one more rolls back to the best state."""
    blend_backoff: float = Field(0.5, ge=0.0, le=1.0)
    """Factor on the blend after a roll-back, towards the analytic barrier; it recovers as measurements succeed."""
    penalty_boost: float = Field(2.0, ge=1.0, le=100.0)
    """Factor on the weights of slack, collision and fallback after a roll-back; it decays as measurements succeed."""
    penalty_limit: float = Field(16.0, ge=1.0, le=1e6)
    """Largest such factor."""
    rollbacks: int = Field(5, ge=0, le=1000)
    """Roll-backs before the run gives up and fails, saying why."""
