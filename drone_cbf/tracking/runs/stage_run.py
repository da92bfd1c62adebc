"""The MLflow run of a stage: started or adopted, described, and ended with its true status."""

from __future__ import annotations

import logging
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import mlflow
import yaml
from mlflow.data.dataset import Dataset
from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from drone_cbf.errors import DroneCbfError
from drone_cbf.tracking.links import run_page
from drone_cbf.tracking.runs.presentation import name_run, present_experiment
from drone_cbf.tracking.runs.resuming import (
    Stored,
    check_resumable,
    process_name,
    read_stored,
    reopen,
    retire_prepared_run,
)
from drone_cbf.tracking.runs.tracking_store import get_or_create_experiment, prepare_store
from drone_cbf.tracking.tags import (
    COMMIT_TAG,
    CONFIG_FILE,
    DIRTY_TAG,
    FAILURE_TAG,
    INTERRUPTED,
    NOTE_TAG,
    PROCESS_TAG,
    RESUMED_TAG,
    RESUMED_WITH_TAG,
    STAGE_TAG,
    VERSION_PREFIX,
)

EXPERIMENT = "drone_cbf"
"""Experiment of runs that are not started by ``mlflow run`` (which chooses one itself)."""

_VERSIONS = ("drone_cbf", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "mlflow", "numpy", "qpax")
_LONGEST_PARAM = 6000
_LONGEST_TAG = 8000
_PARAMS_PER_CALL = 100


@dataclass(frozen=True)
class StageRun:
    """The active run of a stage."""

    run_id: str
    experiment_id: str
    stage: str
    stored: Stored = field(default_factory=Stored)
    """Metrics and events that a resumed run holds already; empty for a new one."""

    def tag(self, **tags: str) -> None:
        """Sets tags ``drone_cbf.<name>``."""
        _set_tags(self.run_id, {f"drone_cbf.{name}": text for name, text in tags.items()})

    def record_environment(self, tags: Mapping[str, str]) -> None:
        """Records versions, commit or device. A resumed run keeps those of its start and records what has changed."""
        known = MlflowClient().get_run(self.run_id).data.tags
        changed = [
            f"{name}: {known[name]} before, {text} now" for name, text in tags.items() if known.get(name, text) != text
        ]
        new = {name: text for name, text in tags.items() if name not in known}
        if changed and RESUMED_TAG in known:  # a new run may have a commit that 'mlflow run' has recorded
            changes = [*filter(None, known.get(RESUMED_WITH_TAG, "").split("; ")), *changed]
            new[RESUMED_WITH_TAG] = shorten("; ".join(dict.fromkeys(changes)), _LONGEST_TAG)
            text = "environment changed; results may not be bit-identical"
            print(f"{self.stage}: {text}: {'; '.join(changed)}", file=sys.stderr)
        _set_tags(self.run_id, new)

    def name(self, name: str) -> None:
        """Names the run in the UI, unless the user named it."""
        name_run(MlflowClient(), self.run_id, name, replaceable=self.stage)

    def describe(self, markdown: str) -> None:
        """Replaces the description that the MLflow UI shows; the whole text is also the artifact ``summary.md``."""
        mlflow.log_text(markdown, "summary.md", run_id=self.run_id)
        _set_tags(self.run_id, {NOTE_TAG: shorten(markdown, _LONGEST_TAG)})

    def log_config(self, config: Mapping[str, Any]) -> None:
        """Stores ``config`` as ``config.yaml`` and, flattened, as params.

        A param that ``mlflow run`` logged keeps its spelling (``1e-3`` for 0.001): MLflow refuses to change it.
        """
        mlflow.log_text(yaml.safe_dump(dict(config), sort_keys=False), CONFIG_FILE, run_id=self.run_id)
        client = MlflowClient()
        known = client.get_run(self.run_id).data.params
        params = [
            Param(key, shorten(value, _LONGEST_PARAM)) for key, value in flatten(config).items() if key not in known
        ]
        for start in range(0, len(params), _PARAMS_PER_CALL):
            client.log_batch(self.run_id, params=params[start : start + _PARAMS_PER_CALL])

    def log_metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Logs a few final metrics at once; metrics of every step go through a recorder."""
        now = int(time.time() * 1000)
        rows = [Metric(key, float(value), now, step) for key, value in self.stored.new_values(step, values).items()]
        for start in range(0, len(rows), 1000):
            MlflowClient().log_batch(self.run_id, metrics=rows[start : start + 1000])

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Uploads a file to the run's artifacts, below ``folder``."""
        mlflow.log_artifact(str(path), folder, run_id=self.run_id)

    def log_text(self, text: str, name: str) -> None:
        """Uploads ``text`` as the artifact ``name``."""
        mlflow.log_text(text, name, run_id=self.run_id)

    def log_figure(self, figure: Any, name: str) -> None:
        """Uploads a matplotlib or plotly figure as the artifact ``name`` (``.png``, ``.html``)."""
        MlflowClient().log_figure(self.run_id, figure, name)

    def log_table(self, columns: Mapping[str, list[Any]], name: str) -> None:
        """Uploads columns as a table artifact (``.json``) that the MLflow UI can show and compare."""
        mlflow.log_table(dict(columns), name, run_id=self.run_id)

    def log_image(self, image: Any, key: str, step: int) -> None:
        """Stores one picture of a series that the MLflow UI shows over steps, as one chart per ``key``.

        Args:
            image: an array (height, width, 3 or 4; uint8, or floats in 0 to 1), or a matplotlib figure.
            key: name of the series: letters, digits, ``_ - . /`` and spaces.
            step: update at which the picture was taken.
        """
        with tempfile.TemporaryDirectory(prefix="drone_cbf-") as folder:
            if hasattr(image, "savefig"):
                drawn = Path(folder) / "figure.png"
                image.savefig(drawn)
                image = mlflow.Image(str(drawn))
            MlflowClient().log_image(self.run_id, image, key=key, step=step, synchronous=True)

    def log_dataset(self, dataset: Dataset, context: str) -> None:
        """Records a dataset that the run used; ``context``: ``training`` or ``evaluation``."""
        used = DatasetInput(dataset._to_mlflow_entity(), [InputTag("mlflow.data.context", context)])
        MlflowClient().log_inputs(self.run_id, [used])


@contextmanager
def stage_run(stage: str, project: Path, resume: str = "", system_metrics: bool = False) -> Iterator[StageRun]:
    """Adopts the run that ``mlflow run`` prepared, or starts one, and ends it with the outcome of the body.

    If the body raises, the run ends FAILED (on an interrupt: KILLED) with a one-line reason in the tag
    ``drone_cbf.failure``, and the exception propagates. ``project`` is the folder whose git commit is recorded.
    ``resume`` names an interrupted run to resume in place of the prepared one. With ``system_metrics``, processor and
    memory are recorded too (``MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING=false`` prevents it).
    """
    active = _start(system_metrics)
    run = StageRun(active.info.run_id, active.info.experiment_id, stage)
    try:
        if resume:
            check_resumable(resume, stage)
            active = _exchange(run, resume, system_metrics)
            run = StageRun(resume, active.info.experiment_id, stage, read_stored(resume))
        run.name(stage)
        present_experiment(MlflowClient(), run.experiment_id)
        _set_tags(run.run_id, {STAGE_TAG: stage, PROCESS_TAG: process_name()})
        run.record_environment(_provenance(project))
        yield run
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        try:
            _set_tags(run.run_id, {FAILURE_TAG: shorten(failure_reason(error), _LONGEST_TAG)})
        finally:
            mlflow.end_run("KILLED" if interrupted else "FAILED")
        raise
    mlflow.end_run("FINISHED")


def failure_reason(error: BaseException) -> str:
    """The reason of a failure on one line; errors of other packages start with the name of their type."""
    text = " ".join(str(error).split())
    if isinstance(error, DroneCbfError):
        return text
    if isinstance(error, KeyboardInterrupt):
        return f"{INTERRUPTED}{f' ({text})' if text else ''}"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted names and text; the groups ``parameters`` and ``system`` add no prefix of their own."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, prefix if key in ("parameters", "system") and not prefix else f"{prefix}{key}.")
        elif isinstance(value, (list, tuple)):
            flat[f"{prefix}{key}"] = ",".join(map(str, value))
        elif value is not None:
            flat[f"{prefix}{key}"] = str(value)
    return flat


def environment() -> str:
    """What kind of Python environment runs this: ``conda``, ``venv`` (virtual environment) or ``local`` (neither)."""
    if (Path(sys.prefix) / "conda-meta").is_dir():
        return "conda"
    return "venv" if sys.prefix != sys.base_prefix else "local"


def run_link(run_id: str, experiment_id: str) -> str:
    """Address of a run's page."""
    return ui_address(run_page(run_id, experiment_id))


def ui_address(page: str) -> str:
    """Address of a page (``#/...``): on the tracking server, or on the UI that ``make ui`` serves on this machine."""
    uri = mlflow.get_tracking_uri()
    base = uri.rstrip("/") if uri.startswith("http") else "http://127.0.0.1:5000"
    return f"{base}/{page}"


def _start(system_metrics: bool) -> mlflow.ActiveRun:
    logging.getLogger("mlflow.system_metrics").setLevel(logging.WARNING)  # it announces its start and end
    wanted = None if MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.is_set() else system_metrics
    try:
        prepare_store()
        return mlflow.start_run(experiment_id=_experiment(), log_system_metrics=wanted)
    except MlflowException as error:
        raise DroneCbfError(f"no run can be started in {mlflow.get_tracking_uri()}: {_refusal(error)}") from error


def _refusal(error: MlflowException) -> str:
    """Why the store refused, and what to check."""
    if error.get_http_status_code() == 401 or "error code 401" in str(error):
        return "user name or password is wrong or missing; check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    return f"{failure_reason(error)}; check MLFLOW_TRACKING_URI"


def _exchange(prepared: StageRun, resume: str, system_metrics: bool) -> mlflow.ActiveRun:
    """The interrupted run in place of the one that was prepared."""
    retire_prepared_run(prepared.run_id, resume)
    return reopen(resume, None if MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.is_set() else system_metrics)


def _experiment() -> str | None:
    """ID of our experiment, or None if the caller chose one."""
    if {"MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"} & os.environ.keys():
        return None
    return get_or_create_experiment(EXPERIMENT)


def _provenance(project: Path) -> dict[str, str]:
    tags = {f"{VERSION_PREFIX}{name}": version for name in _VERSIONS if (version := _version(name))}
    tags[f"{VERSION_PREFIX}python"] = platform.python_version()
    tags["drone_cbf.environment"] = environment()
    commit = _git(project, "rev-parse", "HEAD")
    if commit:
        tags[DIRTY_TAG] = "true" if _git(project, "status", "--porcelain") else "false"
        tags[COMMIT_TAG] = commit
    return tags


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _set_tags(run_id: str, tags: Mapping[str, str]) -> None:
    MlflowClient().log_batch(run_id, tags=[RunTag(key, text) for key, text in tags.items()])


def shorten(text: str, longest: int) -> str:
    """``text``, cut to ``longest`` characters."""
    return text if len(text) <= longest else text[: longest - 1] + "…"
