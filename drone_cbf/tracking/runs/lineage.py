"""Lineage of runs: checks a parent before any work, and finds what a stage needs in its ancestry."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import mlflow
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from drone_cbf.documents import UnreadableError, parse_yaml
from drone_cbf.errors import LineageError
from drone_cbf.tracking.checkpoints.certificates import recorded_system
from drone_cbf.tracking.folders import missing_folder
from drone_cbf.tracking.runs.tracking_store import store_place
from drone_cbf.tracking.tags import CONFIG_FILE, FAILURE_TAG, NESTED_TAG, PARENT_TAG, PROVIDES_TAG, STAGE_TAG


@dataclass(frozen=True)
class Parent:
    """A finished run that a later stage builds on."""

    run_id: str
    stage: str
    config: dict[str, Any]  # Its ``config.yaml``


def resolve_parent(run_id: str, stages: Sequence[str], called: str = "parent_run") -> Parent:
    """The finished run ``run_id`` of one of ``stages``, or LineageError; ``called`` is the parameter that names it."""
    wanted = f"a finished {' or '.join(stages)} run"
    run = get_active_run(run_id, called, wanted)
    stage = run.data.tags.get(STAGE_TAG)
    if stage is None or stage not in stages:
        raise LineageError(f"{called} {run_id} is {stage_text(stage)}, expected {wanted}{_hint(run, stages, called)}")
    check_finished(run, called, wanted)
    _refuse_loop(run)
    config = load_config(run_id)
    recorded_system(config, f"{CONFIG_FILE} of run {run_id}")
    return Parent(run_id=run_id, stage=stage, config=config)


def check_finished(run: Run, called: str = "run", wanted: str = "another one") -> None:
    """LineageError unless the run has finished; ``called`` and ``wanted`` as in :func:`get_active_run`."""
    if run.info.status == "FINISHED":
        return
    detail = f" ({reason})" if (reason := run.data.tags.get(FAILURE_TAG)) else ""
    remedy = "wait until it has finished" if run.info.status in ("RUNNING", "SCHEDULED") else "repeat it"
    stage = run.data.tags.get(STAGE_TAG)
    raise LineageError(f"{called} {run.info.run_id} ({stage}) is {run.info.status}{detail}; {remedy}, or name {wanted}")


def find(run_id: str, part: str) -> str:
    """The nearest run of the ancestry that provides ``part`` (``policy`` or ``barrier``); LineageError if none does."""
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
    seen: list[str] = []
    following: str | None = run_id
    while following:
        if following in seen:
            raise LineageError(f"run {following} is its own ancestor; its tag {PARENT_TAG} was altered, correct it")
        run = get_run(following) if not seen else _ancestor(following, seen[-1])
        seen.append(following)
        yield run
        following = run.data.tags.get(PARENT_TAG)


def _ancestor(run_id: str, of: str) -> Run:
    try:
        return MlflowClient().get_run(run_id)
    except MlflowException as error:
        lost = f"run {run_id}, which run {of} builds on, is not in {store_place()} any more"
        raise LineageError(f"{lost}; restore the store from a backup, or name a run with a whole ancestry") from error


def _refuse_loop(run: Run) -> None:
    """LineageError if the run is its own ancestor; an ancestor that is gone is missed only where it is needed."""
    seen = {run.info.run_id}
    while following := run.data.tags.get(PARENT_TAG):
        if following in seen:
            raise LineageError(f"run {following} is its own ancestor; its tag {PARENT_TAG} was altered, correct it")
        seen.add(following)
        try:
            run = MlflowClient().get_run(following)
        except MlflowException:
            return


def load_config(run_id: str) -> dict[str, Any]:
    """The ``config.yaml`` of a run; LineageError if it has none that can be read, or settings are no mappings."""
    what, remedy = f"{CONFIG_FILE} of run {run_id}", "name another run, or repeat that one"
    try:
        config = parse_yaml(load_artifact(run_id, CONFIG_FILE))
    except UnreadableError as error:
        raise LineageError(f"{what} is not valid ({error}); {remedy}") from error
    if not isinstance(config, dict):
        raise LineageError(f"{what} is not valid: it holds no settings; {remedy}")
    for name in ("parameters", "system"):
        if name in config and not isinstance(config[name], dict):
            raise LineageError(f"{what} is not valid: {name} is {config[name]!r:.40}, expected settings; {remedy}")
    return config


def load_artifact(run_id: str, name: str) -> str:
    """The text of an artifact; LineageError if the run has none of that name."""
    try:
        return mlflow.artifacts.load_text(f"runs:/{run_id}/{name}")
    except (MlflowException, OSError, UnicodeDecodeError) as error:
        why = f": {missing}" if (missing := missing_folder(get_run(run_id, "run"))) else ""
        raise LineageError(f"run {run_id} has no readable {name}{why}; name another run, or repeat that one") from error


def children(run: Run) -> list[Run]:
    """The runs nested in ``run``, oldest first."""
    query = f"tags.`{NESTED_TAG}` = '{run.info.run_id}'"
    return MlflowClient().search_runs([run.info.experiment_id], query, order_by=["attributes.start_time ASC"])


def _holds(run: Run, part: str) -> bool:
    return part in run.data.tags.get(PROVIDES_TAG, "").split(",")


def get_active_run(run_id: str, called: str = "run", wanted: str = "another one") -> Run:
    """The run, or LineageError if it is missing or deleted; messages call it ``called`` and suggest ``wanted``."""
    run = get_run(run_id, called)
    if run.info.lifecycle_stage != "active":
        restore = f"restore it (mlflow runs restore --run-id {run_id})"
        raise LineageError(f"{called} {run_id} is deleted; {restore} or name {wanted}")
    return run


def get_run(run_id: str, called: str = "parent_run") -> Run:
    """The run ``run_id``, deleted or not; LineageError, which calls it ``called``, if there is none."""
    try:
        return MlflowClient().get_run(run_id)
    except MlflowException as error:
        hint = _meant(run_id)
        message = f"{called} '{run_id}' was not found in {store_place()}{hint}"
        raise LineageError(f"{message}; check the run ID and MLFLOW_TRACKING_URI") from error


def _meant(text: str) -> str:
    """A hint where ``text`` is the name of a run, or the beginning of the ID of a single one."""
    if not re.fullmatch(r"[\w.-]+", text):
        return ""
    named = _search(f"attributes.run_name = '{text}'")
    if named:
        return f" (a run of that name has the ID {named[0]})"
    if not re.fullmatch(r"[0-9a-f]{4,31}", text):
        return ""
    begun = _search(f"attributes.run_id LIKE '{text}%'")
    if len(begun) > 1:
        return " (several runs begin so)"
    return f" (did you mean {begun[0]}?)" if begun else ""


def _search(query: str) -> list[str]:
    """IDs of at most two matching runs."""
    found = mlflow.search_runs(None, query, max_results=2, output_format="list", search_all_experiments=True)
    return [run.info.run_id for run in found]


def stage_text(stage: str | None) -> str:
    """How messages describe a run of that stage."""
    return f"a run of stage {stage}" if stage else "no run of this project"


def _hint(run: Run, stages: Sequence[str], called: str) -> str:
    """The run that was probably meant: a child of the named pipeline, or the parent of the named evaluation."""
    nested = {child.data.tags.get(STAGE_TAG): child.info.run_id for child in children(run)}
    for stage in stages:
        if stage in nested:
            return f"; its {stage} run is {nested[stage]}"
    above = run.data.tags.get(PARENT_TAG)
    with suppress(MlflowException):  # it may be gone
        if above and MlflowClient().get_run(above).data.tags.get(STAGE_TAG) in stages:
            return f"; its own parent {above} is one"
    return f"; name one with -P {called}=<run id>"
