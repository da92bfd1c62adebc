"""What a sweep trains: the stages that all trials share, and those of one trial, as tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drone_cbf.errors import ConfigError
from projects.cli.arguments import as_text
from projects.cli.stage_parameters import PipelineParameters
from projects.cli.sweep_parameters import SweepParameters
from projects.inputs.curriculum_files import available, load_curriculum, with_sizes
from projects.inputs.curriculum_levels import blend_flown
from projects.inputs.sweep_files import STAGES, Choices, Searched, SweepSettings
from projects.running.entry_points import ENTRY_POINTS
from projects.workflows.pipeline import stage_parameters
from projects.workflows.suite_tasks import Task, earlier_runs

Values = Mapping[str, Any]
"""Name of a setting, as in a sweep file -> its value."""


@dataclass(frozen=True)
class SweepTasks:
    """Makes the tasks of a sweep."""

    settings: SweepSettings
    curriculum: str
    """As the safety stage is given it."""
    seed: int
    parent_run: str
    """ID of the run that every trial starts from; empty: the shared stages come first."""
    given_system: Mapping[str, str]
    """What the command line sets of the system."""

    @property
    def begins(self) -> str:
        """First stage of every trial."""
        return "safety" if self.parent_run else self.settings.first_stage

    def shared(self) -> list[Task]:
        """What is trained once, before the trials."""
        stages = list(STAGES)[: list(STAGES).index(self.begins)]
        return self._tasks(stages, {}, True) if stages and not self.parent_run else []

    def of_trial(self, values: Values) -> list[Task]:
        """What one trial trains and evaluates, each task after the one before it; the first after what is shared."""
        stages = list(STAGES)[list(STAGES).index(self.begins) :]
        return self._tasks(stages, values, bool(self.parent_run) or not self.shared())

    def _tasks(self, stages: Sequence[str], values: Values, is_first: bool) -> list[Task]:
        """``is_first``: nothing of the sweep comes before, so that settings given for all belong here."""
        every = {**self.settings.given, **values}
        own = self._of_pipeline()
        if is_first and stages[0] != "efficiency":
            own[stages[0]] |= self.given_system
        for name, value in every.items():
            group, _, rest = name.partition(".")
            if group in STAGES:
                own[group][rest] = as_text(value)
            elif name in values or is_first:
                own[stages[0]][name] = as_text(value)
        if "evaluate.blend" not in every:
            own["evaluate"]["blend"] = blend_flown("last", load_curriculum(own["safety"]["curriculum"]))
        title = Path(self.curriculum).stem
        return [
            Task(ENTRY_POINTS[stage], own[stage], place - 1 if place else None, title, self.seed)
            for place, stage in enumerate(stages)
        ]

    def _of_pipeline(self) -> dict[str, dict[str, str]]:
        """Stage -> what a pipeline with this curriculum gives it."""
        sized = with_sizes(PipelineParameters(curriculum=self.curriculum, seed=self.seed))
        return {stage: dict(own) for stage, own in stage_parameters(sized, self.given_system).items()}

    def check(self, parent_run: str | None) -> None:
        """Every task once with each end of every range: what a stage would refuse is refused before any work.

        Raises:
            ConfigError: names the setting that a stage refuses, or that does not go with another one.
        """
        for task in self.shared():
            earlier_runs(task, None)
        middle = {name: ends(searched)[0] for name, searched in self.settings.space.items()}
        for name, searched in self.settings.space.items():
            for value in ends(searched):
                for task in self.of_trial({**middle, name: value}):
                    try:
                        earlier_runs(task, parent_run if task.after is None else None)
                    except ConfigError as error:
                        raise ConfigError(f"sweep {self.settings.name} with {name} = {value}: {error}") from error


def ends(searched: Searched) -> tuple[Any, ...]:
    """The ends of a range, or every choice."""
    return searched.choices if isinstance(searched, Choices) else (searched.low, searched.high)


def sweep_tasks(parameters: SweepParameters, settings: SweepSettings, given_system: Mapping[str, str]) -> SweepTasks:
    """The tasks of a sweep.

    Raises:
        ConfigError: a setting is searched that a trial which starts from ``parent_run`` does not train any more.
    """
    stages = list(STAGES)
    early = [name for name in settings.space if name.partition(".")[0] in stages[: stages.index("safety")]]
    if parameters.parent_run and early:
        stage = early[0].partition(".")[0]
        raise ConfigError(
            f"space.{early[0]} is of stage {stage}, which parent_run has done already; leave parent_run out, or search "
            "settings of the safety stage and of the system"
        )
    place = parameters.curriculum
    place = place if place in available() else str(Path(place).resolve())  # children run in another folder
    return SweepTasks(settings, place, parameters.seed, parameters.parent_run, given_system)
