"""The children of a suite in several processes: what may begin begins, and one that is lost goes on in another."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from drone_cbf.tracking.runs.stage_run import StageRun
from projects.workflows import children as carrying_out
from projects.workflows import side_by_side, suite
from projects.workflows.children import job_of, start_child
from projects.workflows.start_child import ENDED, NONE, child_named
from tests.projects.stored_children import INTERRUPTED, StoredChildren
from tests.projects.test_suite_populations import a_suite, new_run, started


class Process:
    """In place of a process: its child has been carried out when it is looked at for the second time."""

    def __init__(self, arguments: Sequence[str], run: StageRun, log: list[str]) -> None:
        self.name, self._said, self._looks = f"process {len(log)}", "", 0
        self._job, self._run, self._log = job_of(json.loads(arguments[1])), run, log
        log.append(f"begins {self._job.title}")
        self._code: int | None = None

    def poll(self) -> int | None:
        self._looks += 1
        if self._looks > 1 and self._code is None:
            child, reason = start_child(self._run, self._job)
            self._log.append(f"ends {self._job.title}")
            self._code = -9 if reason == INTERRUPTED else 0
            self._said = f"{reason} {ENDED} {child or NONE}"
        return self._code

    def said(self) -> str:
        return self._said

    def terminate(self) -> None:
        self._log.append("terminated")

    def wait(self) -> None: ...


@pytest.fixture
def log(experiment: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []

    def process_starter(module: str, cluster: str, workers: int, folder: Path) -> object:
        return lambda arguments, settings: Process(arguments, StageRun(arguments[0], experiment, "suite"), found)

    monkeypatch.setattr(suite, "process_starter", process_starter)
    monkeypatch.setattr(side_by_side, "INTERVAL", 0.0)
    return found


@pytest.fixture
def children(experiment: str, monkeypatch: pytest.MonkeyPatch) -> StoredChildren:
    found = StoredChildren(experiment)
    monkeypatch.setattr(carrying_out, "run_child", found.run_child)
    monkeypatch.setattr(suite, "prepare_for_children", lambda: None)
    monkeypatch.setattr("projects.comparison.comparison.compare", lambda *a, **k: "compared")
    return found


def most_at_once(log: Sequence[str]) -> int:
    running, most = 0, 0
    for line in log:
        running += 1 if line.startswith("begins") else -1
        most = max(most, running)
    return most


def test_each_begins_when_what_it_builds_on_is_there_and_a_lost_one_goes_on(
    experiment: str, children: StoredChildren, log: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    children.ends = {("safety", 3): INTERRUPTED}
    suite.work(a_suite(new_run(experiment), tmp_path, curricula=("fast",), workers=2))
    shared = [f"{stage} seed {experiment}" for stage in ("efficiency", "pretrain_cbf")]
    assert log[:4] == [f"{what} {title}" for title in shared for what in ("begins", "ends")]
    assert log[4:6] == ["begins safety fast seed 3", "begins safety fast seed 5"] and most_at_once(log) == 2
    for seed in (3, 5):
        assert log.index(f"begins evaluate fast seed {seed}") > log.index(f"ends safety fast seed {seed}")
    assert log.count("begins safety fast seed 3") == 2 and log.count("begins safety fast seed 5") == 1
    assert sum("resume_run" in given for entry, given in children.given) == 1, "from its checkpoint"
    assert capsys.readouterr().out.count("was lost") == 1


@pytest.mark.slow
def test_what_loses_its_process_again_and_again_fails_and_leaves_the_others_alone(
    experiment: str, children: StoredChildren, log: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = children._end

    def end(run_id: str, entry: str) -> str:
        children.ends |= {("safety", 3): INTERRUPTED}
        return whole(run_id, entry)

    monkeypatch.setattr(children, "_end", end)
    with pytest.raises(suite.SuiteIncomplete, match="safety fast seed 3 .* was lost 3 times"):
        suite.work(a_suite(new_run(experiment), tmp_path, curricula=("fast",), workers=2))
    assert log.count("begins safety fast seed 3") == 3
    assert [one for one in started(children) if one[0] == "evaluate"] and "ends evaluate fast seed 5" in log


@pytest.mark.slow
def test_workers_train_populations_where_there_are_curricula_for_all_of_them(
    experiment: str, children: StoredChildren, log: list[str], tmp_path: Path
) -> None:
    suite.work(a_suite(new_run(experiment), tmp_path, workers=2))
    assert log[4:6] == ["begins safety one seeds 3,5", "begins safety two seeds 3,5"]


@pytest.mark.parametrize(
    ("said", "run_id"),
    [
        (f"evaluate finished: run 7, see it {ENDED} 0f3a", "0f3a"),
        (f"stage safety could not start {ENDED} {NONE}", ""),
        ("a half line", ""),
    ],
)
def test_the_last_word_of_a_process_names_its_child(said: str, run_id: str) -> None:
    assert child_named(said) == run_id
