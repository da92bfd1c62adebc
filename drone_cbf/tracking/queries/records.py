"""Reads runs from the store: settings, last values of metrics, histories, artifacts."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import mlflow
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from drone_cbf.documents import UnreadableError, parse_json
from drone_cbf.errors import ConfigError, LineageError
from drone_cbf.tracking import tags as names
from drone_cbf.tracking.runs.lineage import get_active_run, load_config


@dataclass(frozen=True)
class Record:
    """One run at the time of reading. Text that was not recorded is empty, a seed -1."""

    run_id: str
    experiment_id: str
    name: str
    stage: str  # empty for a run of another project
    status: str  # of MLflow: RUNNING, FINISHED, FAILED, KILLED, SCHEDULED
    started: datetime
    seconds: float | None  # duration; None while it runs
    params: dict[str, str]
    metrics: dict[str, float]  # last value of each
    tags: dict[str, str]

    @property
    def parent_run(self) -> str | None:
        return self.tags.get(names.PARENT_TAG)

    @property
    def failure(self) -> str:
        return self.tags.get(names.FAILURE_TAG, "")

    @property
    def trains(self) -> str:
        """Of a population: the stage of its members."""
        return self.tags.get(names.TRAINS_TAG, "")

    @property
    def commit(self) -> str:
        return self.tags.get(names.COMMIT_TAG, "")

    @property
    def seed(self) -> int:
        return int(self.params.get("seed", "-1"))

    @property
    def curriculum(self) -> str:
        return self.tags.get("drone_cbf.curriculum", "")


def read(run_id: str) -> Record:
    """The run ``run_id``; LineageError if there is none, or it is deleted."""
    return to_record(get_active_run(run_id))


def experiment_id(name: str) -> str:
    """ID of the experiment of that name (or ID); ConfigError, which lists those that exist, if there is none."""
    known = {experiment.name: experiment.experiment_id for experiment in MlflowClient().search_experiments()}
    if name in known or name in known.values():
        return known.get(name, name)
    remedy = f"name one of {', '.join(sorted(known))}"
    raise ConfigError(f"experiment = {name} does not exist in {mlflow.get_tracking_uri()}; {remedy}")


def search_runs(query: str, experiment: str | None = None) -> list[Run]:
    """Active runs that match MLflow's filter ``query``, oldest first; in every experiment unless one (ID) is given.

    Raises ConfigError if MLflow does not understand the query.
    """
    where: dict[str, Any] = {"experiment_ids": [experiment]} if experiment else {"search_all_experiments": True}
    order = ["attributes.start_time ASC"]
    try:
        return mlflow.search_runs(filter_string=query, order_by=order, output_format="list", **where)
    except MlflowException as error:
        reason = " ".join(str(error.message).split())
        example = "tags.drone_cbf.curriculum = 'default'"
        raise ConfigError(f"filter = {query} is refused by MLflow ({reason}); an example: {example}") from error


def search(query: str, experiment: str | None = None) -> list[Record]:
    """The same as records."""
    return [to_record(run) for run in search_runs(query, experiment)]


def nested(record: Record) -> list[Record]:
    """The children of a run, oldest first."""
    return search(f"tags.`{names.NESTED_TAG}` = '{record.run_id}'", record.experiment_id)


def evaluations_of(run_id: str) -> list[Run]:
    """Finished evaluations of a run, in any experiment, oldest first."""
    finished = f"tags.`{names.STAGE_TAG}` = 'evaluate' and attributes.status = 'FINISHED'"
    return search_runs(f"tags.`{names.PARENT_TAG}` = '{run_id}' and {finished}")


def same_settings(digest: str) -> list[Record]:
    """Runs in any experiment whose settings have that digest, oldest first."""
    return search(f"tags.`{names.DIGEST_TAG}` = '{digest}'")


def history(run_id: str, metrics: Iterable[str]) -> list[dict[str, float]]:
    """Those of ``metrics`` that the run has, one row per step in order: ``{"step": ..., name: value}``."""
    client = MlflowClient()
    known = client.get_run(run_id).data.metrics
    rows: dict[int, dict[str, float]] = {}
    for name in dict.fromkeys(metrics):
        # The last value of a repeated step counts.
        points = client.get_metric_history(run_id, name) if name in known else []
        for metric in sorted(points, key=lambda metric: (metric.step, metric.timestamp)):
            rows.setdefault(metric.step, {"step": float(metric.step)})[name] = metric.value
    return [rows[step] for step in sorted(rows)]


def settings(run_id: str) -> dict[str, Any]:
    """The ``config.yaml`` of a run: ``stage``, ``parameters``, ``system``; raises LineageError if it has none."""
    return load_config(run_id)


def artifact_names(run_id: str, folder: str) -> list[str]:
    """Paths of the files directly in ``folder`` of a run's artifacts."""
    return sorted(file.path for file in MlflowClient().list_artifacts(run_id, folder) if not file.is_dir)


def artifact(run_id: str, path: str) -> bytes | None:
    """Content of one artifact, or None if the run has no such file."""
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        return None  # it would lead out of the run's artifacts
    if path not in artifact_names(run_id, path.rpartition("/")[0]):
        return None
    with tempfile.TemporaryDirectory(prefix="drone_cbf-") as place:
        return Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=path, dst_path=place)).read_bytes()


def stored_curriculum(run_id: str) -> dict[str, Any]:
    """The curriculum of a run as it was then; empty if it had none."""
    return json_artifact(run_id, names.CURRICULUM_FILE) or {}


def table(run_id: str, path: str) -> list[dict[str, Any]]:
    """Rows of a table that was logged as JSON; none if the run has no such file."""
    content = json_artifact(run_id, path) or {"columns": [], "data": []}
    try:
        return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]
    except (KeyError, TypeError, ValueError) as error:
        raise LineageError(f"{path} of run {run_id} is no table; repeat that run") from error


def json_artifact(run_id: str, path: str) -> Any:
    """The plain values of a JSON file among a run's artifacts, None if it has no such file.

    Raises LineageError if it is no JSON.
    """
    content = artifact(run_id, path)
    try:
        return None if content is None else parse_json(content)
    except UnreadableError as error:
        raise LineageError(f"{path} of run {run_id} cannot be read ({error}); repeat that run") from error


def to_record(run: Run) -> Record:
    """The run as it is now."""
    info, ended = run.info, run.info.end_time
    return Record(
        run_id=info.run_id,
        experiment_id=info.experiment_id,
        name=info.run_name or info.run_id,
        stage=run.data.tags.get(names.STAGE_TAG, ""),
        status=info.status,
        started=datetime.fromtimestamp(info.start_time / 1000.0, UTC),
        seconds=(ended - info.start_time) / 1000.0 if ended else None,
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
        tags=dict(run.data.tags),
    )
