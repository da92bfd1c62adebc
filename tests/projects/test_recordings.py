"""The recordings of an evaluation: one file per flight of the viewer and format, readable where they are stored."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest
from mlflow.tracking import MlflowClient

from drone_cbf.recordings import saving
from drone_cbf.reporting.pages.viewer import ShownFlight
from drone_cbf.tracking.runs.stage_run import StageRun
from projects.pictures.recordings import upload_recordings
from projects.running.launch import launch
from tests.projects.trained import safety_run
from tests.recordings.reading import columns, messages
from tests.reporting.worlds import through_the_window


def test_each_shown_flight_is_uploaded_once_per_format_with_its_twin(experiment: str, tmp_path: Path) -> None:
    run = StageRun(MlflowClient().create_run(experiment).info.run_id, experiment, "evaluate")
    named = through_the_window(4, name="0.31 m/s at 2.10 s: forest, noise 0.02, random goals")
    shown = [ShownFlight(through_the_window(4), through_the_window(4, filtered=False)), ShownFlight(named, None)]
    upload_recordings(run, shown, ("mcap", "rrd"))
    stored = sorted(file.path for file in MlflowClient().list_artifacts(run.run_id, "recordings"))
    names = ["01_window", "01_window_without_filter", "02_0_31_m_s_at_2_10_s_forest_noise_0_02_random_goals"]
    assert stored == [f"recordings/{name}.{ending}" for name in names for ending in ("mcap", "rrd")]
    for path in stored:
        here = Path(mlflow.artifacts.download_artifacts(run_id=run.run_id, artifact_path=path, dst_path=str(tmp_path)))
        read = messages(here)["/tf"] if here.suffix == ".mcap" else columns(here)["/world/drone"]["flight"]
        assert len(read) == 5


def test_an_evaluation_without_recordings_uploads_none(experiment: str) -> None:
    run = StageRun(MlflowClient().create_run(experiment).info.run_id, experiment, "evaluate")
    upload_recordings(run, [ShownFlight(through_the_window(4), None)], ())
    assert not MlflowClient().list_artifacts(run.run_id, "recordings")


def test_a_missing_package_is_told_before_anything_flies(
    experiment: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(saving.FORMATS, ".rrd", ("no_such_module", "write"))
    assert launch("evaluate", [f"--parent_run={safety_run(experiment)}", "--recordings=rrd"]) == 1
    told = capsys.readouterr().err
    assert "writing '.rrd' needs the package" in told and "pip install -e '.[recordings]'" in told
