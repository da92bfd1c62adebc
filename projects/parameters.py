"""The parameters of each entry point: exactly those that MLproject declares (a test compares them).

A default is written once: where a stage's settings are defined. Only what MLflow adds is new here: the parent run, the
curriculum's name, and what the pipeline hands to its stages.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from drone_cbf.config import Section
from drone_cbf.evaluation.settings import EvaluationSettings
from drone_cbf.training.settings import EfficiencySettings, PretrainingSettings, SafetySettings

RunId = Annotated[str, Field(min_length=1, max_length=250)]


class Resumable(Section):
    """What a training stage takes beside its settings."""

    resume_run: str = Field("", max_length=250)
    """ID of an interrupted run of this stage to go on with, in that run and with its settings; leave the others out."""


class Following(Resumable):
    """A training stage that builds on another."""

    parent_run: str = Field("", max_length=250)
    """ID of the finished run to build on."""

    @model_validator(mode="after")
    def _has_a_parent(self) -> Following:
        if not self.parent_run and not self.resume_run:
            purpose = (type(self).model_fields["parent_run"].description or "").rstrip(".")
            raise ValueError(f"parent_run is missing ({purpose}); give it with -P parent_run=<value>")
        return self


def _default(settings: type[Section], name: str) -> object:
    return settings.model_fields[name].default


class EfficiencyParameters(EfficiencySettings, Resumable):
    """Trains a policy that flies, by back-propagation through the physics, without a safety filter."""


class PretrainParameters(PretrainingSettings, Following):
    """Trains the neural barrier against the analytic one, on sampled states and on states of the parent's policy."""

    parent_run: str = Field("", max_length=250)
    """ID of a finished efficiency run, whose policy visits the states."""


class SafetyParameters(SafetySettings, Following):
    """Trains policy and neural barrier jointly, through the safety filter, under a curriculum."""

    parent_run: str = Field("", max_length=250)
    """ID of a finished pretrain_cbf run (its ancestry holds the policy), or of a safety run to go on from."""
    curriculum: str = Field("default", min_length=1, max_length=1000)
    """Name of a file in projects/curricula, or a path to a YAML file."""


class EvaluateParameters(EvaluationSettings):
    """Measures success, collisions, violations and the filter's work over scenarios, noise and goals."""

    parent_run: RunId
    """ID of a finished run with a policy: efficiency, pretrain_cbf or safety."""


class PipelineParameters(Section):
    """Runs efficiency, pretrain_cbf, safety and evaluate as children of one run."""

    curriculum: str = Field("default", min_length=1, max_length=1000)
    """Curriculum of the safety stage: a name in projects/curricula, or a path to a YAML file."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Root of all randomness of the three training stages."""
    efficiency_steps: int = Field(_default(EfficiencySettings, "steps"), ge=1, le=100_000)
    """Updates of the efficiency stage."""
    pretrain_steps: int = Field(_default(PretrainingSettings, "steps"), ge=1, le=1_000_000)
    """Updates of the pretrain_cbf stage."""
    batch: int = Field(_default(EfficiencySettings, "batch"), ge=1, le=4096)
    """Flights per update of the efficiency and safety stages."""
    horizon: int = Field(_default(EfficiencySettings, "horizon"), ge=1, le=2000)
    """Steps of a flight in the efficiency and evaluate stages; the curriculum sets the safety stage's."""
    rollouts: int = Field(_default(EvaluationSettings, "rollouts"), ge=1, le=100_000)
    """Flights per cell of the evaluate stage."""
