"""What a user sets for each learning stage. The system itself (physics to objective) is :class:`SystemConfig`."""

from __future__ import annotations

from pydantic import Field

from drone_cbf.config import Fraction, SceneName, Section
from drone_cbf.training.curriculum import Curriculum

ALL_SCENES: tuple[SceneName, ...] = ("fixed_ring", "random_cloud", "forest")


class EfficiencySettings(Section):
    """Back-propagation through time without a filter."""

    steps: int = Field(180, ge=1, le=100_000)
    """Updates."""
    batch: int = Field(64, ge=1, le=4096)
    """Flights per update."""
    horizon: int = Field(200, ge=1, le=2000)
    """Steps of a flight."""
    learning_rate: float = Field(5e-3, gt=0.0, le=1.0)
    """Peak learning rate of AdamW."""
    checkpoint_every: int = Field(20, ge=1, le=100_000)
    """Updates between two stored states from which an interrupted run can go on."""
    noise: float = Field(0.05, ge=0.0, le=1.0)
    """Observation noise [m, m/s]; each flight draws its own level up to this one."""
    scenes: tuple[SceneName, ...] = Field(ALL_SCENES, min_length=1)
    """Scene families, mixed evenly in every batch."""
    nonfinite_limit: int = Field(3, ge=0, le=100_000)
    """Updates whose loss or gradient is not finite that are skipped; one more fails the run."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Root of all randomness."""


class PretrainingSettings(Section):
    """Sobolev regression of the neural barrier."""

    steps: int = Field(2000, ge=1, le=1_000_000)
    """Updates."""
    batch: int = Field(512, ge=8, le=65_536)
    """States per update."""
    learning_rate: float = Field(3e-3, gt=0.0, le=1.0)
    """Peak learning rate of AdamW."""
    checkpoint_every: int = Field(250, ge=1, le=100_000)
    """Updates between two stored states from which an interrupted run can go on."""
    policy_states: Fraction = 0.5
    """Fraction of every batch taken from flights of the parent's policy; the rest is sampled."""
    nonfinite_limit: int = Field(3, ge=0, le=100_000)
    """Updates whose loss or gradient is not finite that are skipped; one more fails the run."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Root of all randomness."""


class SafetySettings(Section):
    """Joint training of policy and barrier through the filter."""

    curriculum: Curriculum
    """Stages in order."""
    batch: int = Field(64, ge=1, le=4096)
    """Flights per update."""
    learning_rate: float = Field(5e-4, gt=0.0, le=1.0)
    """Peak learning rate of the policy's AdamW."""
    barrier_learning_rate: float = Field(5e-4, gt=0.0, le=1.0)
    """Peak learning rate of the barrier's AdamW."""
    checkpoint_every: int = Field(10, ge=1, le=100_000)
    """Updates between two stored states from which an interrupted run can go on."""
    barrier_task_gradient: Fraction = 0.0
    """Weight of the task gradient that reaches the barrier through the filter; above 0 it learns to open."""
    scenes: tuple[SceneName, ...] = Field(ALL_SCENES, min_length=1)
    """Scene families, mixed evenly in every batch."""
    nonfinite_limit: int = Field(3, ge=0, le=100_000)
    """Updates whose loss or gradient is not finite that are skipped; one more fails the run."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Root of all randomness."""
