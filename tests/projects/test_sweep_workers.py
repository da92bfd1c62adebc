"""Workers of a sweep that are lost are replaced, whatever they were doing; too many end it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from drone_cbf.errors import DroneCbfError
from projects.sweeping.workers import MOST_LOSSES, Workers


class Ended:
    """A worker that has ended with ``code``."""

    def __init__(self, code: int) -> None:
        self.name, self.code = "process 7", code

    def poll(self) -> int:
        return self.code

    def said(self) -> str:
        return "out of memory"

    def terminate(self) -> None:
        raise AssertionError("it has ended")

    wait = terminate


@pytest.fixture(autouse=True)
def _store(experiment: str) -> None:
    """The workers are told where the runs lie."""


@pytest.mark.parametrize("handed_back", [[], [4]])
def test_a_lost_worker_is_replaced_whether_it_had_a_trial_or_not(
    handed_back: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []
    study = SimpleNamespace(run_id="1", release_abandoned=lambda task: asked.append(task) or handed_back)
    codes, settings = iter([9, 0]), []
    workers = Workers(study, "start", lambda arguments, given: settings.append(given) or Ended(next(codes)), 1)
    assert workers.tend() and workers.lost == 1
    assert asked == [settings[0]["DRONE_CBF_SWEEP_TASK"]] and asked[0] != settings[1]["DRONE_CBF_SWEEP_TASK"]
    assert not workers.tend() and workers.lost == 1, "the second one has ended with nothing left to do"
    told = capsys.readouterr().out
    assert "worker process 7 was lost" in told and ("trial 5" in told) is bool(handed_back)


def test_what_loses_worker_after_worker_ends_the_sweep_and_is_shown() -> None:
    study = SimpleNamespace(run_id="1", release_abandoned=lambda task: [])
    workers = Workers(study, "start", lambda arguments, given: Ended(1), 1)
    with pytest.raises(DroneCbfError, match=f"{MOST_LOSSES + 1} workers were lost; the last one said: out of memory"):
        while workers.tend():
            pass
