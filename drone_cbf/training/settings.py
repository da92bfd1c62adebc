"""User settings of each training stage. The system itself (physics to objective) is :class:`SystemConfig`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from drone_cbf.config import Fraction, SceneName, Section
from drone_cbf.sections import Neutral
from drone_cbf.training.curriculum.schema import Curriculum
from drone_cbf.training.curriculum.strata_mixture import Strata, parse_strata, stratum_counts

DEFAULT_SCENES: tuple[SceneName, ...] = ("fixed_ring", "random_cloud", "forest")

_INTERVAL = """Updates between two resumable states. The latest is stored at most every 60 s, and when a run fails or is
stopped; a killed run repeats the updates after the last stored state."""
_LIMIT = "Tolerated updates with a non-finite loss or gradient, which are skipped; one more fails the run."
CheckpointInterval = Annotated[int, Field(ge=1, le=100_000, description=_INTERVAL)]
NonfiniteLimit = Annotated[int, Field(ge=0, le=100_000, description=_LIMIT)]
SceneFamilies = Annotated[
    tuple[SceneName, ...], Field(min_length=1, description="Scene families, mixed evenly in every batch.")
]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1, description="Root of all randomness.")]


def without_blanks(value: Any) -> Any:
    """A list without its empty strings: an empty text is an empty list."""
    return tuple(part for part in value if part != "") if isinstance(value, (list, tuple)) else value


class EfficiencySettings(Section):
    """Settings of the efficiency stage: back-propagation through time without a filter."""

    steps: int = Field(180, ge=1, le=100_000)
    """Updates."""
    batch: int = Field(64, ge=1, le=4096)
    """Flights per update."""
    horizon: int = Field(200, ge=1, le=2000)
    """Steps of a flight."""
    report_flights: int = Field(256, ge=1, le=100_000)
    """Fresh flights for the final metrics."""
    learning_rate: float = Field(5e-3, gt=0.0, le=1.0)
    """Peak learning rate of AdamW."""
    checkpoint_every: CheckpointInterval = 20
    noise: float = Field(0.05, ge=0.0, le=1.0)
    """Observation noise [m, m/s]; each flight draws its own level up to this one."""
    scenes: SceneFamilies = DEFAULT_SCENES
    nonfinite_limit: NonfiniteLimit = 3
    seed: Seed = 0


Temperatures = Annotated[tuple[Annotated[float, Field(gt=0.0, le=1.0)], ...], BeforeValidator(without_blanks)]


class PretrainingSettings(Section):
    """Settings of the pretraining stage: Sobolev regression of the neural barrier."""

    steps: int = Field(2000, ge=1, le=1_000_000)
    """Updates."""
    batch: int = Field(512, ge=8, le=65_536)
    """States per update."""
    learning_rate: float = Field(3e-3, gt=0.0, le=1.0)
    """Peak learning rate of AdamW."""
    checkpoint_every: CheckpointInterval = 250
    log_every: int = Field(10, ge=1, le=1_000_000)
    """Updates between two recorded points; recording every update would make training a seventh longer. Validated and
    skipped updates are always recorded."""
    report_flights: int = Field(256, ge=1, le=100_000)
    """Flights of the parent's policy behind the analytic barrier to train on; as many others are held out."""
    horizon: int = Field(200, ge=1, le=2000)
    """Steps of these flights; the horizon of the other stages saves a compilation."""
    policy_states: Fraction = 0.5
    """Fraction of every batch that comes from flights of the parent's policy; the rest is sampled."""
    nonfinite_limit: NonfiniteLimit = 3
    strata: Strata = ("open:1",)
    """Strata of the sampled states with weights: open, boundary, gap, corridor, high_speed (barrier/strata.py)."""
    temperatures: Temperatures = ()
    """Soft-min temperatures of the teacher [m] for equal parts of training; the last part uses ``barrier.temperature``.
    Larger ones smooth the ridges. Empty: that one alone."""
    scenes: Annotated[SceneFamilies, Neutral(DEFAULT_SCENES)] = DEFAULT_SCENES
    seed: Seed = 0

    @model_validator(mode="after")
    def _every_stratum_has_states(self) -> PretrainingSettings:
        sampled = self.batch - round(self.policy_states * self.batch)
        missing = [name for name, count in stratum_counts(parse_strata(self.strata), sampled).items() if not count]
        if missing and sampled:
            raise ValueError(
                f"strata: the weight of {missing[0]} gives it none of the {sampled} sampled states of a batch; "
                f"raise it, or raise batch = {self.batch}"
            )
        return self


class SafetySettings(Section):
    """Settings of the safety stage: joint training of policy and barrier through the filter."""

    curriculum: Curriculum
    """Stages, learning mechanisms and monitoring."""
    batch: int = Field(64, ge=1, le=4096)
    """Flights per update."""
    learning_rate: float = Field(1e-3, gt=0.0, le=1.0)
    """Peak learning rate of the policy's AdamW."""
    barrier_learning_rate: float = Field(2e-3, gt=0.0, le=1.0)
    """Peak learning rate of the barrier's AdamW."""
    report_flights: int = Field(256, ge=1, le=100_000)
    """Fresh flights that measure the end of a stage; as many others calibrate the barrier."""
    checkpoint_every: CheckpointInterval = 10
    barrier_task_gradient: Fraction = 0.0
    """Weight of the task gradient that reaches the barrier through the filter; above 0 the barrier learns to open."""
    scenes: SceneFamilies = DEFAULT_SCENES
    nonfinite_limit: NonfiniteLimit = 3
    seed: Seed = 0
