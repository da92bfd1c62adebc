"""The curriculum of joint training: a schema-checked list of stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError, model_validator

from drone_cbf.config import Fraction, Section, SystemConfig
from drone_cbf.errors import ConfigError, is_one_line, shown
from drone_cbf.sections import Neutral, nearest
from drone_cbf.training.curriculum.mechanisms import Learning, LossName, Monitor, Weight


class Stage(Section):
    """Training conditions of one stage, and the thresholds at its end."""

    name: str = Field(min_length=1, max_length=60, pattern=r"^[A-Za-z0-9_.-]+$")
    """Shown in charts and checkpoints."""
    steps: int = Field(ge=1, le=100_000)
    """Updates."""
    noise: float = Field(0.0, ge=0.0, le=1.0)
    """Observation noise [m, m/s]; each flight draws its own level up to this one."""
    blend: Fraction = 1.0
    """0: analytic barrier, 1: neural barrier; the filter uses this mixture."""
    augment: Fraction = 0.0
    """Displacement of obstacles and start velocity, as a fraction of 0.5 m and 1 m/s."""
    density: Annotated[Fraction, Neutral(1.0)] = 1.0
    """Fraction of the obstacles that remain, each by chance; the ground always does."""
    horizon: int = Field(200, ge=1, le=2000)
    """Steps of a flight."""
    success_threshold: Fraction = 0.0
    """Required success rate at the end of the stage, under its own conditions."""
    violation_threshold: float = Field(1e6, ge=0.0)
    """Largest allowed 99.9 % quantile of the CBF violation [m/s], likewise."""
    weights: dict[LossName, Weight] = {}
    """Loss weights that differ from the curriculum's in this stage."""


def _name_settings(system: dict[str, Any]) -> dict[str, Any]:
    """``system``; ValueError for an unknown setting, or a value out of its range."""
    groups = {key: declared.annotation for key, declared in SystemConfig.model_fields.items()}
    for name, value in system.items():
        group, _, field = name.partition(".")
        kind: Any = groups.get(group)
        if kind is None or field not in kind.model_fields:
            known = f"{group} has {', '.join(kind.model_fields)}" if kind else f"the groups are {', '.join(groups)}"
            every = [
                f"{key}.{each}" for key, declared in groups.items() for each in getattr(declared, "model_fields", ())
            ]
            remedy = nearest(name, every) or "; correct the name, as in filter.penalty"
            raise ValueError(f"{shown(name)} is not a system setting ({known}){remedy}")
        try:
            kind.model_validate({field: value})
        except ValidationError as error:
            own = [problem for problem in error.errors() if problem["loc"]]
            if own:  # constraints between settings are checked when the run builds its system
                raise ValueError(f"{name} = {value!r:.60}: {own[0]['msg']}") from error
    return system


def _one_line(text: str) -> str:
    if not is_one_line(text):
        raise ValueError(f"name {text!r} holds a line break or a character that cannot be shown; leave it out")
    return text


class Curriculum(Section):
    """A curriculum of joint training: stages in order, learning mechanisms, monitoring."""

    name: Annotated[str, Field(min_length=1, max_length=60), AfterValidator(_one_line)]
    """By which runs are compared."""
    description: str = ""
    """One line, shown with each run."""
    system: Annotated[dict[str, bool | int | float | str], AfterValidator(_name_settings)] = {}
    """System settings by dotted name, such as ``barrier.kind: distance_hocbf``. They override the parent run's and are
    overridden by the command line's."""
    trained_with: Annotated[dict[str, bool | int | float | str], AfterValidator(_name_settings), Neutral({})] = {}
    """System settings with which the networks must have been trained that it starts from, such as ``sensor.kind:
    lidar``. A pipeline trains them so."""
    learning: Learning = Learning()
    """Learning mechanisms."""
    monitor: Monitor = Monitor()
    """Measurements during training."""
    stages: tuple[Stage, ...] = Field(min_length=1, max_length=100)
    """At least one."""

    @model_validator(mode="after")
    def _penalties_act(self) -> Curriculum:
        if self.learning.balance == "mgda" and self.monitor.every and self.monitor.penalty_boost != 1.0:
            raise ValueError(
                f"monitor.penalty_boost = {self.monitor.penalty_boost:g} with learning.balance = mgda: MGDA gives the "
                "longer gradient the smaller share, so a penalty would make the policy less careful; set it to 1"
            )
        return self

    @property
    def total_steps(self) -> int:
        """Total number of updates."""
        return sum(stage.steps for stage in self.stages)

    def density_in(self, stage: Stage) -> float | None:
        """Density of the obstacles in that stage; None if no stage removes any, so that nothing is compiled for it."""
        return stage.density if any(each.density < 1.0 for each in self.stages) else None

    def weights_in(self, stage: Stage) -> dict[LossName, float]:
        """Loss weights in that stage: its own where it names one, else the curriculum's."""
        return self.learning.weights.model_dump() | stage.weights  # type: ignore[return-value]

    @property
    def weights_used(self) -> frozenset[LossName]:
        """Losses with a weight in at least one stage; the others are not built."""
        return frozenset(name for stage in self.stages for name, weight in self.weights_in(stage).items() if weight)

    @property
    def uses_teacher(self) -> bool:
        """Whether some stage weights a loss of the barrier against the analytic one."""
        return bool(self.weights_used & {"cbf_value", "cbf_gradient"})

    @property
    def system_groups(self) -> dict[str, dict[str, Any]]:
        """``system`` as group -> field -> value."""
        groups: dict[str, dict[str, Any]] = {}
        for name, value in self.system.items():
            group, field = name.split(".")
            groups.setdefault(group, {})[field] = value
        return groups


def parse_curriculum(content: object, source: str) -> Curriculum:
    """Validate ``content``, a parsed YAML document; ``source`` names it in error messages.

    Raises:
        ConfigError: names the file, the field, the value and what is allowed.
    """
    if not isinstance(content, Mapping):
        raise ConfigError(f"curriculum {source}: expected a mapping with 'name' and 'stages', found {content!r:.60}")
    return Curriculum.parse(content, f"curriculum {source}", "projects/curricula/default.yaml")
