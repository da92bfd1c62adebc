"""Which run comes from which: checks a parent before any work, and finds what a stage needs up its ancestry."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import mlflow
import yaml
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from drone_cbf.errors import LineageError
from drone_cbf.tracking.tags import CONFIG_FILE, FAILURE_TAG, NESTED_TAG, PARENT_TAG, PROVIDES_TAG, STAGE_TAG


@dataclass(frozen=True)
class Parent:
    """A finished run that a later stage builds on."""

    run_id: str
    stage: str
    config: dict[str, Any]
    """Its ``config.yaml``."""


def resolve_parent(run_id: str, stages: Sequence[str], called: str = "parent_run") -> Parent:
    """The finished run ``run_id`` of one of ``stages``; ``called`` is the parameter that names it.

    Raises:
        LineageError: there is no such run, or it is deleted, unfinished, failed, of another stage, or without config.
    """
    run = get_run(run_id, called)
    wanted = f"a finished {' or '.join(stages)} run"
    if run.info.lifecycle_stage != "active":
        raise LineageError(
            f"{called} {run_id} is deleted; restore it (mlflow runs restore --run-id {run_id}) or name {wanted}"
        )
    stage = run.data.tags.get(STAGE_TAG)
    if stage is None or stage not in stages:
        raise LineageError(f"{called} {run_id} is {_called(stage)}, expected {wanted}{_hint(run, stages, called)}")
    if run.info.status != "FINISHED":
        reason = run.data.tags.get(FAILURE_TAG)
        detail = f" ({reason})" if reason else ""
        remedy = "wait until it has finished" if run.info.status in ("RUNNING", "SCHEDULED") else "repeat it"
        raise LineageError(f"{called} {run_id} ({stage}) is {run.info.status}{detail}; {remedy}, or name {wanted}")
    return Parent(run_id=run_id, stage=stage, config=load_config(run_id))


def find(run_id: str, part: str) -> str:
    """The run nearest to ``run_id``, itself or up its ancestry, that provides ``part`` (``policy`` or ``barrier``).

    Raises:
        LineageError: none does.
    """
    walked = []
    for run in ancestry(run_id):
        walked.append(f"{run.data.tags.get(STAGE_TAG, 'unknown')} {run.info.run_id}")
        if _holds(run, part):
            return run.info.run_id
    raise LineageError(f"no {part} on parent_run or its ancestry ({' <- '.join(walked)}); name a run that trained one")


def provides(run_id: str, part: str) -> bool:
    """Whether the run or its ancestry provides ``part``."""
    return any(_holds(run, part) for run in ancestry(run_id))


def ancestry(run_id: str) -> Iterator[Run]:
    """The run, its parent, and so on to the first stage."""
    seen: set[str] = set()
    following: str | None = run_id
    while following:
        if following in seen:
            raise LineageError(f"run {following} is its own ancestor; its tag {PARENT_TAG} was altered, correct it")
        seen.add(following)
        run = get_run(following)
        yield run
        following = run.data.tags.get(PARENT_TAG)


def load_config(run_id: str) -> dict[str, Any]:
    """The ``config.yaml`` of a run."""
    remedy = "name another run, or repeat that one"
    try:
        config = yaml.safe_load(mlflow.artifacts.load_text(f"runs:/{run_id}/{CONFIG_FILE}"))
    except (MlflowException, OSError) as error:
        raise LineageError(f"run {run_id} has no readable {CONFIG_FILE}; {remedy}") from error
    except yaml.YAMLError as error:
        raise LineageError(f"{CONFIG_FILE} of run {run_id} is not valid YAML; {remedy}") from error
    if not isinstance(config, dict):
        raise LineageError(f"{CONFIG_FILE} of run {run_id} holds no settings; {remedy}")
    return config


def load_artifact(run_id: str, name: str) -> str:
    """The text of an artifact of a run.

    Raises:
        LineageError: it has none of that name.
    """
    try:
        return mlflow.artifacts.load_text(f"runs:/{run_id}/{name}")
    except (MlflowException, OSError) as error:
        raise LineageError(f"run {run_id} has no readable {name}; name another run, or repeat that one") from error


def children(run: Run) -> list[Run]:
    """The runs nested in ``run``, oldest first."""
    query = f"tags.`{NESTED_TAG}` = '{run.info.run_id}'"
    return MlflowClient().search_runs([run.info.experiment_id], query, order_by=["attributes.start_time ASC"])


def _holds(run: Run, part: str) -> bool:
    return part in run.data.tags.get(PROVIDES_TAG, "").split(",")


def get_run(run_id: str, called: str = "parent_run") -> Run:
    """The run ``run_id``; ``called`` is how the message names it where there is none.

    Raises:
        LineageError: there is none.
    """
    try:
        return MlflowClient().get_run(run_id)
    except MlflowException as error:
        store = mlflow.get_tracking_uri()
        raise LineageError(f"{called} '{run_id}' was not found in {store}{_named(run_id)}; check the run ID") from error


def _named(name: str) -> str:
    """A hint where somebody gave a run's name in place of its ID."""
    client = MlflowClient()
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    if not re.fullmatch(r"[\w.-]+", name):
        return ""
    found = client.search_runs(experiments, f"attributes.run_name = '{name}'", max_results=1)
    return f" (a run of that name has the ID {found[0].info.run_id})" if found else ""


def _called(stage: str | None) -> str:
    return f"a run of stage {stage}" if stage else "no run of this project"


def _hint(run: Run, stages: Sequence[str], called: str) -> str:
    """Which run was probably meant: a stage of the pipeline that was named, or the parent of an evaluation."""
    nested = {child.data.tags.get(STAGE_TAG): child.info.run_id for child in children(run)}
    for stage in stages:
        if stage in nested:
            return f"; its {stage} run is {nested[stage]}"
    above = run.data.tags.get(PARENT_TAG)
    if above and MlflowClient().get_run(above).data.tags.get(STAGE_TAG) in stages:
        return f"; its own parent {above} is one"
    return f"; name one with -P {called}=<run id>"
