"""Learning and monitoring settings of a curriculum: a switch or weight for every mechanism of joint training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from drone_cbf.config import Fraction, Section
from drone_cbf.training.curriculum.strata_mixture import Strata

LossName = Literal["cbf_value", "cbf_gradient", "cbf_safe", "cbf_unsafe", "cbf_hdot", "distill", "policy_l2"]
Weight = Annotated[float, Field(ge=0.0, le=1e6)]


class LossWeights(Section):
    """Weights of the losses besides the flight's own. Zero switches a term off."""

    cbf_value: Weight = 1.0
    """Squared error of the barrier's value against the analytic teacher."""
    cbf_gradient: Weight = 1.0
    """Squared error of the barrier's gradient against the analytic teacher."""
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
    """How the two networks learn.

    Mechanisms that the default curriculum leaves off did not pay off when measured (docs/curricula.md, "What pays").
    """

    weights: LossWeights = LossWeights()
    """Loss weights; a stage may override single ones."""
    epsilon: float = Field(0.02, ge=0.0, le=1.0)
    """Required margin in ``cbf_safe``, ``cbf_unsafe`` and ``cbf_hdot`` [m, m/s]."""
    look_ahead: float = Field(1.0, ge=0.0, le=30.0)
    """A state is labelled safe if no surface comes within the safety margin for this long [s]; states closer to the end
    of the flight have no label."""
    strata: Strata = ("open:1",)
    """Strata of the sampled states that the barrier also learns on, with weights (barrier/strata.py)."""
    barrier_updates: int = Field(1, ge=1, le=64)
    """Gradient steps of the barrier per update: one jointly with the policy, the others on further states of the same
    flights. They cost little compared with the flights."""
    barrier_learning_rate_scale: float = Field(1.0, gt=0.0, le=1.0)
    """Factor on the barrier's learning rate. AdamW takes full-size steps along small, rare gradients, so the GCBF+
    losses, which a good barrier mostly satisfies, make it drift unless the steps are short."""
    replay: Fraction = 0.0
    """Fraction of the barrier's flown states that come from replayed flights: unsafe, hard, or flown with slack. 0: no
    replay."""
    replay_flights: int = Field(64, ge=1, le=4096)
    """Size of the replay buffer [flights]."""
    freeze_steps: int = Field(0, ge=0, le=100_000)
    """First updates in which the policy and its optimiser are frozen and only the barrier learns."""
    ema: float = Field(0.0, ge=0.0, lt=1.0)
    """Decay per update of the moving averages of both networks, which are then measured, calibrated and exported. The
    parent's parameters have no weight in them. 0: no averaging."""
    balance: Literal["sum", "mgda"] = "sum"
    """How the policy trades efficiency off against safety: by the objective's weights, or along the common descent
    direction of minimum norm (MGDA, Desideri 2012)."""
    barrier_task_gradient: Fraction | None = None
    """Weight of the task gradient that reaches the barrier through the filter; None: the safety stage's parameter."""
    filtered: bool = True
    """false: train without the filter, on the clearance terms alone (DiffPhysDrone)."""


class Monitor(Section):
    """Regular measurements during training, under the conditions of the current stage, and their consequences.

    A measurement fails if it misses a threshold of its stage.
    """

    every: int = Field(0, ge=0, le=100_000)
    """Updates between two measurements; 0: only at the end of each stage."""
    flights: int = Field(256, ge=1, le=100_000)
    """Flights per measurement; 256 reuse the compiled program of the measurement at the end of a stage."""
    robust_flights: int = Field(256, ge=0, le=100_000)
    """Additional flights with randomised drones (physics/randomisation.py): ``robust/*``; 0: none."""
    patience: int = Field(2, ge=0, le=1000)
    """Tolerated consecutive failures; one more rolls back to the best state."""
    blend_backoff: float = Field(0.5, ge=0.0, le=1.0)
    """Factor on the blend per roll-back, towards the analytic barrier; undone once per passed measurement."""
    penalty_boost: float = Field(2.0, ge=1.0, le=100.0)
    """Factor on the weights of slack, collision, fallback and violation per roll-back; undone likewise."""
    penalty_limit: float = Field(16.0, ge=1.0, le=1e6)
    """Upper limit of that factor."""
    rate_backoff: float = Field(0.3, gt=0.0, le=1.0)
    """Factor on both learning rates per roll-back; never undone, or training would diverge again."""
    rollbacks: int = Field(5, ge=0, le=1000)
    """Roll-backs before the run fails."""
    extensions: int = Field(1, ge=0, le=100)
    """How often a stage that misses its thresholds is extended by half its steps."""
    gate: Literal["warn", "fail"] = "fail"
    """If a stage still misses its thresholds then: ``fail`` ends the run, ``warn`` records it and continues."""
