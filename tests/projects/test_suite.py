"""The suite under a real ``mlflow run``: what was finished is reused, and one failure leaves the others alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

import mlflow
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from projects.running.launch import launch
from tests.projects.small_pipeline import mlflow_run
from tests.stores import tracking

TINY = "name: tiny\nstages: [{name: a, steps: 1, noise: 0.02, blend: 0.5, horizon: 20}]\n"
OTHER = "name: other\nstages: [{name: a, steps: 1, blend: 0.0, horizon: 20}, {name: b, steps: 1, horizon: 20}]\n"
ROUNDING = 1e-4
"""Relative, as in tests/training/test_population_stages.py."""
TIMES = ("time/", "system/")

SMALL = {
    "seeds": "0", "efficiency_steps": "1", "pretrain_steps": "1", "batch": "3", "horizon": "20", "rollouts": "4",
    "scenarios": "fixed_ring", "noise": "0.05", "goals": "random", "policy.features": "16", "barrier.features": "8",
}  # fmt: skip


@dataclass(frozen=True)
class Store:
    """A store in which a suite has finished."""

    folder: Path
    given: dict[str, str]

    def start(self, **changes: str) -> tuple[int, str]:
        """Starts the suite again; exit code and output."""
        result = mlflow_run(self.folder, "suite", self.given | changes)
        return result.returncode, result.stdout + result.stderr

    def runs(self) -> list[Run]:
        """All runs, oldest first."""
        return MlflowClient().search_runs(["0"], order_by=["attributes.start_time ASC"])

    def last_suite(self) -> Run:
        return [run for run in self.runs() if run.data.tags.get("drone_cbf.stage") == "suite"][-1]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("suite")
    for name, text in (("tiny", TINY), ("other", OTHER)):
        (folder / f"{name}.yaml").write_text(text)
    found = Store(folder, {**SMALL, "curricula": f"{folder}/tiny.yaml,{folder}/other.yaml"})
    code, output = found.start()
    assert code == 0, output
    with tracking(f"sqlite:///{folder}/mlflow.db"):
        yield found


def members(run: Run) -> list[dict[str, object]]:
    return json.loads(mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/suite.json"))["members"]


def assert_equal_metrics(one: Run, other: Run) -> None:
    """Of two trainings whose sums were rounded in another order: as docs/scaling.md says."""
    assert one.info.run_id != other.info.run_id and one.data.params == other.data.params
    digests = {run.data.tags["drone_cbf.config_digest"] for run in (one, other)}
    assert len(digests) == 1
    assert one.data.metrics.keys() == other.data.metrics.keys() and len(one.data.metrics) > 50
    for name, value in one.data.metrics.items():
        if not name.startswith(TIMES):
            assert other.data.metrics[name] == pytest.approx(value, rel=ROUNDING, abs=1e-6, nan_ok=True), name


@pytest.mark.slow
@pytest.mark.xdist_group("suite")
class TestSuite:
    def test_it_trains_what_is_shared_once_and_every_curriculum_as_nested_children_then_compares(
        self, store: Store
    ) -> None:
        suite, *children = store.runs()
        assert [run.data.tags["drone_cbf.stage"] for run in children] == [
            "efficiency", "pretrain_cbf", "safety", "evaluate", "safety", "evaluate",
        ]  # fmt: skip
        assert {run.data.tags["mlflow.parentRunId"] for run in children} == {suite.info.run_id}
        assert {run.info.status for run in (suite, *children)} == {"FINISHED"}
        assert [run.data.tags.get("drone_cbf.curriculum") for run in children[2:]] == ["tiny", "tiny", "other", "other"]
        assert "comparison/tiny/success_rate" in suite.data.metrics
        paths = {file.path for file in MlflowClient().list_artifacts(suite.info.run_id, "comparison")}
        assert paths == {
            f"comparison/{name}" for name in ("summary.md", "summary.csv", "runs.csv", "loss_over_blend.csv")
        }
        note = suite.data.tags["mlflow.note.content"]
        assert all(f"runs/{run.info.run_id}?" in note for run in children) and "#/compare-runs?runs=" in note

    def test_started_twice_it_trains_nothing_the_second_time(self, store: Store) -> None:
        before = store.runs()
        code, output = store.start()
        assert code == 0 and "6 children, 6 reused, 0 to be trained" in output
        (suite,) = [run for run in store.runs() if run.info.run_id not in {old.info.run_id for old in before}]
        assert suite.data.tags["drone_cbf.stage"] == "suite", "no child was started"
        first = before[0]
        assert [member["run_id"] for member in members(suite)] == [member["run_id"] for member in members(first)]
        assert {member["state"] for member in members(suite)} == {"reused"}
        assert suite.data.metrics == first.data.metrics

    def test_a_dry_run_prints_the_plan_and_trains_nothing(self, store: Store) -> None:
        before = len(store.runs())
        code, output = store.start(seeds="0,1", dry_run="true")
        assert code == 0 and len(store.runs()) == before + 1, "the run that mlflow run has created"
        tags = store.runs()[-1].data.tags
        assert tags["drone_cbf.dry_run"] == "true" and "drone_cbf.stage" not in tags, "which speaks for nothing"
        assert "10 children, 6 reused, 4 to be trained" in output
        assert re.search(r"safety tiny seed 0 +reused from run \w{32}", output)
        assert re.search(r"evaluate other seed 1 +to be trained", output)

    def test_seeds_trained_at_once_are_what_each_is_alone(self, store: Store) -> None:
        tiny = {"curricula": f"{store.folder}/tiny.yaml", "seeds": "1,2"}
        code, output = store.start(**tiny)
        assert code == 0 and "safety tiny seeds 1,2 starts" in output, output
        together = {row["seed"]: row["run_id"] for row in members(store.last_suite()) if row["stage"] == "safety"}
        (parent,) = {MlflowClient().get_run(str(one)).data.tags["drone_cbf.parent_run"] for one in together.values()}
        asked = {**tiny, "parent_run": parent, "population": "off", "reuse": "false", "workers": "2"}
        given = {name: text for name, text in store.given.items() if "." not in name} | asked
        result = mlflow_run(store.folder, "suite", given)
        assert result.returncode == 0, result.stdout + result.stderr
        for row in members(store.last_suite()):
            if row["stage"] == "safety":
                pair = [MlflowClient().get_run(str(one)) for one in (together[row["seed"]], row["run_id"])]
                assert_equal_metrics(*pair)

    def test_one_failure_leaves_the_others_alone_and_the_suite_says_which_and_why(self, store: Store) -> None:
        broken = next(run for run in store.runs() if run.data.tags.get("drone_cbf.curriculum") == "tiny")
        file = next((Path(urlparse(broken.info.artifact_uri).path) / "checkpoints" / "final").rglob("manifest.json"))
        content = file.read_text()
        file.unlink()
        try:
            code, output = store.start(rollouts="5")
        finally:
            file.write_text(content)
        suite = store.last_suite()
        assert code != 0 and suite.info.status == "FAILED" and "Traceback" not in output
        told = suite.data.tags["drone_cbf.failure"]
        assert told.startswith("1 of 6 children failed: evaluate tiny seed 0 (run ") and "is incomplete" in told
        assert [member["state"] for member in members(suite)] == [
            "reused",
            "reused",
            "reused",
            "failed",
            "reused",
            "trained",
        ]
        assert "comparison/other/success_rate" in suite.data.metrics, "what finished is compared"
        assert "FAILED" in suite.data.tags["mlflow.note.content"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"curricula": "fats"}, "curriculum 'fats' does not exist"),
        ({"seeds": "1,1", "parent_run": "x"}, "seeds = 1,1 holds 1 twice"),
        ({"parent_run": "nothing"}, "parent_run 'nothing' was not found"),
    ],
)
def test_bad_input_fails_before_any_work(
    experiment: str, capsys: pytest.CaptureFixture[str], arguments: dict[str, str], message: str
) -> None:
    assert launch("suite", [f"--{name}={text}" for name, text in arguments.items()]) == 1
    assert message in capsys.readouterr().err
    (run,) = MlflowClient().search_runs([experiment])
    assert run.info.status == "FAILED" and message in run.data.tags["drone_cbf.failure"]
