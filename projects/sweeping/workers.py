"""The workers that carry out the trials of a sweep: started, replaced when one is lost, ended with the sweep."""

from __future__ import annotations

import uuid
from types import TracebackType

from drone_cbf.errors import DroneCbfError
from drone_cbf.tracking.runs.starting import GIVEN
from drone_cbf.tracking.runs.tracking_store import store_place
from drone_cbf.tracking.studies.storage import SweepStudy
from projects.running.processes import Begin, WorkerProcess
from projects.sweeping.worker import TASK

MOST_LOSSES = 10
"""Workers that may be lost; one more ends the sweep: something ends them all."""


class Workers:
    """As many as asked for, while there are trials for them."""

    def __init__(self, study: SweepStudy, start: str, begin: Begin, count: int) -> None:
        self._study, self._start, self._begin_process = study, start, begin
        self.lost = 0
        """Workers that have ended before there was nothing left to do."""
        self._running = [self._begin() for _ in range(count)]

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        for process, _ in self._running:
            process.terminate()
        for process, _ in self._running:
            process.wait()
        if self._running:
            self._study.release_abandoned(is_their_fault=False)

    def tend(self) -> bool:
        """Replaces workers that were lost, and hands their trials on; whether any worker is left.

        Raises:
            DroneCbfError: more than :data:`MOST_LOSSES` were lost.
        """
        codes = [process.poll() for process, _ in self._running]
        for place, (code, (process, task)) in enumerate(zip(codes, [*self._running], strict=True)):
            if code is None or code == 0:
                continue
            self.lost += 1
            handed_back = self._study.release_abandoned(task=task)
            # None where it had none, or handed it back itself before it ended.
            which = f" with trial {handed_back[0] + 1}, which another one goes on with" if handed_back else ""
            print(f"sweep: worker {process.name} was lost{which}", flush=True)
            if self.lost > MOST_LOSSES:
                raise DroneCbfError(f"{self.lost} workers were lost; the last one said: {process.said()}")
            self._running[place] = self._begin()
        self._running = [one for code, one in zip(codes, self._running, strict=True) if code != 0]
        return bool(self._running)

    def _begin(self) -> tuple[WorkerProcess, str]:
        """A worker and its task, by which trials of a lost one are known, wherever it was."""
        task = uuid.uuid4().hex
        # By the run that it names the worker knows to which process it belongs.
        settings = {GIVEN: self._study.run_id, "MLFLOW_TRACKING_URI": store_place(), TASK: task}
        return self._begin_process([self._study.run_id, self._start], settings), task
