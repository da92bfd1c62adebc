"""What a sweep has set out to do, stored before it begins: workers and a resumed sweep go by this, not by the file."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from drone_cbf.errors import ConfigError
from drone_cbf.tracking.runs.lineage import load_config
from projects.cli.arguments import check
from projects.cli.sweep_parameters import SweepParameters
from projects.inputs.sweep_files import SweepSettings, load_sweep
from projects.running.stage_runner import Stage
from projects.sweeping.trial_tasks import SweepTasks, sweep_tasks
from projects.workflows.plans import check_unchanged, store_plan, stored_plan

SPACE, SYSTEM = "sweep", "given_system"
"""Parts of the plan: the content of the sweep's file, and what the command line has set of the system."""


@dataclass(frozen=True)
class SweepPlan:
    """A sweep that is under way."""

    parameters: SweepParameters
    settings: SweepSettings
    tasks: SweepTasks


def require_optuna() -> None:
    """ConfigError, which says how to install it, where Optuna is missing."""
    if importlib.util.find_spec("optuna") is None:
        raise ConfigError("a sweep needs Optuna, which is not installed; pip install -e '.[sweep]' -c constraints.txt")


def plan_of(stage: Stage) -> SweepPlan:
    """The plan of a resumed sweep, else a new one, which is stored.

    Raises:
        ConfigError: the sweep's file is not valid, a stage would refuse a value, or the curriculum has changed.
    """
    stored = stored_plan(stage.run.run_id)
    if stored is not None:
        plan = _from(stored, stage.parameters)
        check_unchanged(stored, plan.tasks.curriculum)
        return plan
    plan = new_plan(stage.parameters, stage.given_system)
    plan.tasks.check(stage.parent.run_id if stage.parent else None)
    content = {SPACE: plan.settings.model_dump(mode="json"), SYSTEM: dict(stage.given_system)}
    store_plan(stage, [plan.tasks.curriculum], content)
    return plan


def new_plan(parameters: SweepParameters, given_system: Mapping[str, str]) -> SweepPlan:
    """The plan that parameters and file describe; nothing is stored."""
    settings = load_sweep(parameters.space)
    return SweepPlan(parameters, settings, sweep_tasks(parameters, settings, given_system))


def read_plan(run_id: str) -> SweepPlan:
    """The stored plan of the sweep's run, for a worker."""
    stored = stored_plan(run_id)
    assert stored is not None, "a sweep stores its plan before it starts workers"
    return _from(stored, check(SweepParameters, load_config(run_id)["parameters"]))


def _from(stored: Mapping[str, Any], parameters: SweepParameters) -> SweepPlan:
    settings = check(SweepSettings, stored[SPACE])
    return SweepPlan(parameters, settings, sweep_tasks(parameters, settings, stored[SYSTEM]))
