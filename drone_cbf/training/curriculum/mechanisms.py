"""What a curriculum sets about learning and watching: one switch or weight for every mechanism of joint training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from drone_cbf.config import Fraction, Section
from drone_cbf.training.curriculum.strata_mixture import parse_strata

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
    """(epsilon - dh/dt - alpha h)+ over the true next graph, on every state flown (GCBF+)."""
    distill: Weight = 0.0
    """Mean squared difference of the nominal command from the parent policy's [(m/s^2)^2], on the states flown."""
    policy_l2: Weight = 0.0
    """Squared distance of the policy's parameters from the parent's, summed over all of them."""


class Learning(Section):
    """How the two networks learn, beside the weights of the losses.

    What the default curriculum leaves off did not pay when it was measured (docs/curricula.md, "What pays").
    """

    weights: LossWeights = LossWeights()
    """Of the losses; a stage may change single ones."""
    epsilon: float = Field(0.02, ge=0.0, le=1.0)
    """Room asked of the barrier by ``cbf_safe``, ``cbf_unsafe`` and ``cbf_hdot`` [m, m/s]."""
    look_ahead: float = Field(1.0, ge=0.0, le=30.0)
    """A state is safe if no surface comes within the safety margin for this long after it [s]; nearer the flight's end
    it has no label."""
    strata: tuple[str, ...] = Field(("open:1",), min_length=1)
    """Kinds of the sampled states on which the barrier learns beside the flown ones, with their weights
    (barrier/strata.py)."""
    barrier_updates: int = Field(1, ge=1, le=64)
    """Steps of the barrier in an update, one together with the policy's and the others on other states of the same
    flights: they cost little beside flying, and a barrier of a thousand flown states learns slowly."""
    barrier_learning_rate_scale: float = Field(1.0, gt=0.0, le=1.0)
    """Factor on the barrier's learning rate. AdamW takes a full step along a gradient that comes rarely and is small:
    losses that a good barrier mostly meets, those of GCBF+, make it wander unless the steps are short."""
    replay: Fraction = 0.0
    """Fraction of the barrier's flown states that come from kept flights: unsafe, hard, or flown on slack. 0: none are
    kept."""
    replay_flights: int = Field(64, ge=1, le=4096)
    """Flights that are kept."""
    freeze_steps: int = Field(0, ge=0, le=100_000)
    """Updates at the beginning in which the policy and its optimiser stay as they are and the barrier learns alone."""
    ema: float = Field(0.0, ge=0.0, lt=1.0)
    """Decay per update of the running averages of both networks, which are then measured, calibrated and handed on; the
    parent's parameters have no weight in them. 0: none."""
    balance: Literal["sum", "mgda"] = "sum"
    """How the policy weighs efficiency against safety: by the objective's weights, or by the common descent direction
    of smallest norm (MGDA, Desideri 2012)."""
    barrier_task_gradient: Fraction | None = None
    """Weight of the task gradient that reaches the barrier through the filter; none: as the safety stage is told."""
    filtered: bool = True
    """false: flights are trained without the filter, by the clearance terms alone (DiffPhysDrone)."""

    @field_validator("strata")
    @classmethod
    def _are_known(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        parse_strata(entries)
        return entries


class Monitor(Section):
    """Regular measurement during training, under the conditions of the stage under way, and what follows from it.

    A measurement fails where it misses a threshold of its stage.
    """

    every: int = Field(0, ge=0, le=100_000)
    """Updates between two measurements; 0: only at the end of each stage."""
    flights: int = Field(256, ge=1, le=100_000)
    """Flights of one measurement; 256 share the compiled program of the measurement at a stage's end."""
    robust_flights: int = Field(256, ge=0, le=100_000)
    """Flights with a drone drawn at random (physics/randomisation.py) beside them: ``robust/*``; 0: none."""
    patience: int = Field(2, ge=0, le=1000)
    """Failed measurements in a row that are borne; one more rolls back to the best state."""
    blend_backoff: float = Field(0.5, ge=0.0, le=1.0)
    """Factor on the blend at each roll-back, towards the analytic barrier; each pass takes one back."""
    penalty_boost: float = Field(2.0, ge=1.0, le=100.0)
    """Factor on the weights of slack, collision, fallback and violation at each roll-back, taken back likewise."""
    penalty_limit: float = Field(16.0, ge=1.0, le=1e6)
    """Largest such factor."""
    rate_backoff: float = Field(0.3, gt=0.0, le=1.0)
    """Factor on both learning rates at each roll-back; not taken back, or what has diverged would diverge again."""
    rollbacks: int = Field(5, ge=0, le=1000)
    """Roll-backs before the run gives up and fails, saying why."""
    extensions: int = Field(1, ge=0, le=100)
    """How often a stage that misses its thresholds at its end is trained half its steps longer."""
    gate: Literal["warn", "fail"] = "fail"
    """What a stage does that still misses them then: ``fail`` ends the run, ``warn`` records it and goes on."""
