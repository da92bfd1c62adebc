"""The processes that carry out the trials of a sweep: started, replaced when one is lost, ended with the sweep."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from drone_cbf.errors import DroneCbfError
from drone_cbf.tracking.runs.starting import GIVEN
from drone_cbf.tracking.runs.tracking_store import store_place
from drone_cbf.tracking.studies.storage import SweepStudy
from projects.running.stage_runner import ROOT

MOST_LOSSES = 10
"""Workers that may be lost; one more ends the sweep: something ends them all."""
ENDING = 120.0
"""Longest wait for a worker that is asked to end [s]: its stage stores its state first."""
SHOWN = 500
"""Characters of a lost worker's output in a message."""


class Workers:
    """As many processes as asked for, while there are trials for them."""

    def __init__(self, study: SweepStudy, start: str, folder: Path, count: int) -> None:
        self._study, self._start, self._folder = study, start, folder
        self._begun = 0
        self.lost = 0
        """Workers that have ended before there was nothing left to do."""
        self._running = [self._begin() for _ in range(count)]

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        for process in self._running:
            process.terminate()
        for process in self._running:
            try:
                process.wait(ENDING)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._running:
            self._study.release_abandoned(is_their_fault=False)

    def tend(self) -> bool:
        """Replaces workers that were lost, and hands their trials on; whether any worker is left.

        Raises:
            DroneCbfError: more than :data:`MOST_LOSSES` were lost.
        """
        for place, process in [*enumerate(self._running)]:
            if process.poll() is None or process.returncode == 0:
                continue
            self.lost += 1
            handed_back = self._study.release_abandoned()
            which = f" while it carried out trial {handed_back[0] + 1}, which another one goes on with" * bool(
                handed_back
            )
            print(f"sweep: worker process {process.pid} was lost{which}", flush=True)
            if self.lost > MOST_LOSSES:
                told = " ".join(self._output(process.args).split())[-SHOWN:]
                raise DroneCbfError(f"{self.lost} worker processes were lost; the last one said: {told}")
            self._running[place] = self._begin()
        self._running = [process for process in self._running if process.returncode != 0]
        return bool(self._running)

    def _begin(self) -> subprocess.Popen[bytes]:
        self._begun += 1
        output = self._folder / f"worker-{self._begun}.txt"
        command = [sys.executable, "-m", "projects.sweeping.start_worker", self._study.run_id, self._start, str(output)]
        # By the run that it names the worker knows to which process it belongs.
        settings = {**os.environ, GIVEN: self._study.run_id, "MLFLOW_TRACKING_URI": store_place()}
        with output.open("wb") as file:
            return subprocess.Popen(command, cwd=ROOT, env=settings, stdout=file, stderr=subprocess.STDOUT)

    @staticmethod
    def _output(command: object) -> str:
        assert isinstance(command, list)
        return Path(command[-1]).read_text(errors="replace")
