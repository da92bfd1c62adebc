"""The MLflow run of a stage: started or adopted, described, and ended with its true status."""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import yaml
from mlflow.data.dataset import Dataset
from mlflow.entities import DatasetInput, InputTag, Metric, Param
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS

from drone_cbf.errors import DroneCbfError, shown
from drone_cbf.tracking import tags as names
from drone_cbf.tracking.links import run_page
from drone_cbf.tracking.runs import presentation, resuming
from drone_cbf.tracking.runs.presentation import set_tags
from drone_cbf.tracking.runs.provenance import provenance
from drone_cbf.tracking.runs.resuming import Stored
from drone_cbf.tracking.runs.starting import start_run
from drone_cbf.tracking.runs.store_trouble import store_trouble

_LONGEST_PARAM = 6000
_LONGEST_TAG = 8000


@dataclass(frozen=True)
class StageRun:
    """The active run of a stage; ``stored`` is what a resumed run holds already."""

    run_id: str
    experiment_id: str
    stage: str
    stored: Stored = field(default_factory=Stored)

    def has_tag(self, name: str) -> bool:
        return name in MlflowClient().get_run(self.run_id).data.tags

    def tag(self, **tags: str) -> None:
        """Sets tags ``drone_cbf.<name>``."""
        set_tags(self.run_id, {f"drone_cbf.{name}": text for name, text in tags.items()})

    def record_environment(self, tags: Mapping[str, str]) -> None:
        """Records versions, commit or device. A resumed run keeps those it began with and notes what has changed."""
        known = MlflowClient().get_run(self.run_id).data.tags
        before, now = names.environment_of(known), names.environment_of(tags)
        both = sorted(before.keys() & now.keys())
        changed = [f"{name}: {before[name]} before, {now[name]} now" for name in both if before[name] != now[name]]
        new = {name: text for name, text in tags.items() if name not in known}
        if changed and names.RESUMED_TAG in known:  # a new run may have a commit that 'mlflow run' has recorded
            told = [*filter(None, known.get(names.RESUMED_WITH_TAG, "").split("; ")), *changed]
            new[names.RESUMED_WITH_TAG] = shorten("; ".join(dict.fromkeys(told)), _LONGEST_TAG)
            message = f"environment changed; results may not be bit-identical: {'; '.join(changed)}"
            print(f"{self.stage}: {message}", file=sys.stderr)
        set_tags(self.run_id, new)

    def name(self, name: str) -> None:
        """Names the run in the UI, unless the user named it."""
        presentation.name_run(MlflowClient(), self.run_id, name, replaceable=self.stage)

    def describe(self, markdown: str) -> None:
        """Replaces the description that the MLflow UI shows; the whole text is also the artifact ``summary.md``."""
        mlflow.log_text(markdown, "summary.md", run_id=self.run_id)
        set_tags(self.run_id, {names.NOTE_TAG: shorten(presentation.unpadded(markdown), _LONGEST_TAG)})

    def log_config(self, config: Mapping[str, Any]) -> None:
        """Stores ``config`` as ``config.yaml`` and, flattened, as params.

        A param that ``mlflow run`` logged keeps its spelling (``1e-3`` for 0.001): MLflow refuses to change it.
        """
        mlflow.log_text(yaml.safe_dump(dict(config), sort_keys=False), names.CONFIG_FILE, run_id=self.run_id)
        self.log_params(flatten(config))

    def log_params(self, values: Mapping[str, str]) -> None:
        """Stores those of ``values`` that are not params of the run yet."""
        client = MlflowClient()
        known = client.get_run(self.run_id).data.params
        params = [Param(key, shorten(value, _LONGEST_PARAM)) for key, value in values.items() if key not in known]
        for start in range(0, len(params), 100):
            client.log_batch(self.run_id, params=params[start : start + 100])

    def log_metrics(
        self, values: Mapping[str, float], step: int = 0, model_id: str | None = None, dataset: Dataset | None = None
    ) -> None:
        """Logs a few final figures at once; per-step figures go through a recorder.

        With ``model_id``, those that are finite are logged on that model too, as measured on ``dataset``: MLflow
        would store NaN as 0 there.
        """
        now = int(time.time() * 1000)
        about: dict[str, Any] = {"model_id": model_id, "run_id": self.run_id} if model_id else {}
        about |= {"dataset_name": dataset.name, "dataset_digest": dataset.digest} if dataset else {}
        rows = [
            Metric(key, float(value), now, step, **(about if math.isfinite(value) else {}))
            for key, value in self.stored.new_values(step, values).items()
        ]
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
        """Uploads columns as a table artifact (``.json``) that the MLflow UI can show and compare.

        Floats keep every bit, which ``mlflow.log_table`` rounds to ten decimals. What is not finite becomes null.
        """
        rows = [[_as_json(value) for value in row] for row in zip(*columns.values(), strict=True)]
        self.log_text(json.dumps({"columns": list(columns), "data": rows}), name)
        tables = json.loads(MlflowClient().get_run(self.run_id).data.tags.get(MLFLOW_LOGGED_ARTIFACTS, "[]"))
        if (entry := {"path": name, "type": "table"}) not in tables:
            set_tags(self.run_id, {MLFLOW_LOGGED_ARTIFACTS: json.dumps([*tables, entry])})

    def log_image(self, image: Any, key: str, step: int) -> None:
        """Stores one picture of a series that the MLflow UI shows over steps, as one chart per ``key``.

        ``image`` is an array (height, width, 3 or 4; uint8, or floats in 0 to 1), or a matplotlib figure; ``key`` the
        name of the series: letters, digits, ``_ - . /`` and spaces.
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
def stage_run(stage: str, project: Path, resume: str = "", needs: str = "", above: str = "") -> Iterator[StageRun]:
    """Adopts the run that ``mlflow run`` has prepared, or starts one, and ends it as the body went.

    A body that raises ends the run FAILED (an interruption: KILLED) with the one-line reason in the tag
    ``drone_cbf.failure``, and the exception is raised again. ``project`` is the folder whose git commit is recorded.
    ``resume`` names an interrupted run to continue in place of the prepared one, which is put aside; ``needs`` what the
    store must hold already; ``above`` the run of this process that the new one is nested in. Processor and memory are
    recorded where ``MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING=true``.
    """
    run, outer = None, mlflow.active_run()
    try:
        active = start_run("" if resume else stage, f"resume_run {resume}" if resume else needs, above)
        run = StageRun(active.info.run_id, active.info.experiment_id, stage)
        if resume:
            with resuming.taking_over(resume, stage):
                resuming.retire_prepared_run(run.run_id, resume)
                experiment = resuming.reopen(resume).info.experiment_id
            run = StageRun(resume, experiment, stage, resuming.read_stored(resume))
        run.name(stage)
        presentation.name_default_experiment(MlflowClient(), run.experiment_id)
        presentation.present_experiment(MlflowClient(), run.experiment_id)
        run.record_environment(provenance(project))
        yield run
    except BaseException as error:
        left = mlflow.active_run()  # MLflow would call it finished when the process ends
        if left and not (outer and outer.info.run_id == left.info.run_id):
            _end_early(left.info.run_id, error)
        raise
    _end(run.run_id)


def _end_early(run_id: str, error: BaseException) -> None:
    """Ends the run with the reason; a store that takes neither any more does not hide the error itself."""
    reason = failure_reason(error)
    try:
        try:
            set_tags(run_id, {names.FAILURE_TAG: shorten(reason, _LONGEST_TAG)})
        finally:
            _terminate(run_id, "KILLED" if reason.startswith(names.INTERRUPTED) else "FAILED")
    except Exception as trouble:
        told = f"The store could not note that run {run_id} has ended ({failure_reason(trouble)})"
        error.add_note(f"{told}; the next start does.")


def _end(run_id: str) -> None:
    try:
        _terminate(run_id, "FINISHED")
    except Exception as error:
        reason = f"run {run_id} has done its work, but the store could not note it ({failure_reason(error)})"
        raise DroneCbfError(f"{reason}; repair the store, then resume the run, or repeat it") from error


def _terminate(run_id: str, status: str) -> None:
    try:
        mlflow.end_run(status)
    except KeyboardInterrupt:  # there is only one, and the run ends in any case
        MlflowClient().set_terminated(run_id, status)


def failure_reason(error: BaseException) -> str:
    """The reason of a failure on one line; errors of other packages start with the name of their type."""
    text = shown(" ".join(str(error).split()))
    if isinstance(error, DroneCbfError):
        return text
    if isinstance(error, KeyboardInterrupt):
        return f"{names.INTERRUPTED}{f' ({text})' if text else ''}"
    if trouble := store_trouble(error):
        return trouble
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


def run_link(run_id: str, experiment_id: str) -> str:
    """Address of a run's page."""
    return ui_address(run_page(run_id, experiment_id))


def ui_address(page: str) -> str:
    """Address of a page (``#/...``): on the tracking server, or on the UI that ``make ui`` serves on this machine."""
    uri = mlflow.get_tracking_uri()
    base = uri.rstrip("/") if uri.startswith("http") else "http://127.0.0.1:5000"
    return f"{base}/{page}"


def shorten(text: str, longest: int) -> str:
    """``text`` cut to ``longest`` characters."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _as_json(value: Any) -> Any:
    """A value of a table; JSON has neither NaN nor infinity, and does not take NumPy's scalars."""
    plain = value.item() if hasattr(value, "item") else value
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain
