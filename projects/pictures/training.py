"""Pictures of a few flights at each measurement, as a series over the steps of a run."""

from __future__ import annotations

from drone_cbf.api.flight_records import flights_of
from drone_cbf.config import SystemConfig
from drone_cbf.recorder import SilentRecorder
from drone_cbf.reporting.figures.flights import flights_from_above
from drone_cbf.tracking.runs.stage_run import StageRun
from drone_cbf.training.data.flights import MeasuredFlights

SERIES = "flights"
"""Name of the series in the MLflow UI."""


class FlightPictures(SilentRecorder):
    """Stores each measurement's flights from above, at its step."""

    def __init__(self, run: StageRun, system: SystemConfig) -> None:
        self._run, self._system = run, system
        self._known = run.stored.last_steps.get("eval/success_rate", -1)

    def flights(self, step: int, measured: MeasuredFlights, noise: float) -> None:
        if step <= self._known:  # drawn before the interruption
            return
        flights = flights_of(measured.scenes, measured.flown, self._system, "flight", noise)
        figure = flights_from_above(flights, f"after update {step + 1}")
        self._run.log_image(figure, SERIES, step)
