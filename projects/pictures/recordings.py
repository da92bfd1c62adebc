"""The flights that the viewer shows as files for other viewers (drone_cbf/recordings)."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from drone_cbf.recordings.saving import save_flight
from drone_cbf.reporting.pages.viewer import ShownFlight
from drone_cbf.serving.controller import STATUS_NAMES
from drone_cbf.tracking.runs.stage_run import StageRun

FOLDER = "recordings"  # of the run's artifacts


def upload_recordings(run: StageRun, entries: Sequence[ShownFlight], formats: Sequence[str]) -> None:
    """Uploads each flight, and the same one without the filter, once per format, numbered as in the viewer."""
    for index, entry in enumerate(entries, 1):
        for flight, ending in ((entry.flight, ""), (entry.without_filter, "_without_filter")):
            for suffix in formats if flight is not None else ():
                name = re.sub(r"\W+", "_", flight.name).strip("_")[:60]
                with tempfile.TemporaryDirectory(prefix="drone_cbf-") as folder:
                    path = Path(folder) / f"{index:02d}_{name}{ending}.{suffix}"
                    run.log_file(save_flight(flight, path, STATUS_NAMES), FOLDER)
