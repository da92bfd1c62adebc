"""Measurements of joint training under the conditions of a stage, with the nominal drone and with randomised ones."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from drone_cbf.arrays import Scalar
from drone_cbf.config import SystemConfig
from drone_cbf.flights import Flyer, make_flyer
from drone_cbf.objectives.metrics import flight_report
from drone_cbf.rollout import Controller, ControllerParams
from drone_cbf.training.curriculum.schema import Stage
from drone_cbf.training.data.flights import FlightMeasure, MeasuredFlights, make_flight_measure, report_key
from drone_cbf.training.settings import SafetySettings
from drone_cbf.training.update.averaging import networks_of
from drone_cbf.training.update.joint_update import SafetyState

FIRST_STAGE = 10
"""``report_key`` purpose of the first stage. All measurements of a stage fly the same scenes, so that they compare."""


def controller_of(state: SafetyState, margin: Scalar, blend: float) -> ControllerParams:
    """Controller parameters that represent ``state`` in measurements."""
    policy, barrier = networks_of(state)
    return ControllerParams(policy=policy, barrier=barrier, margin=margin, blend=jnp.float32(blend))


class StageMeasures:
    """Flies under a stage's conditions; caches one compiled program per horizon and number of flights."""

    def __init__(self, system: SystemConfig, settings: SafetySettings, controller: Controller, root: jax.Array) -> None:
        self._system, self._settings, self._controller, self._root = system, settings, controller, root
        self._flyers: dict[int, Flyer] = {}
        self._measures: dict[tuple[int, int, bool], FlightMeasure] = {}

    def flyer(self, horizon: int) -> Flyer:
        if horizon not in self._flyers:
            self._flyers[horizon] = make_flyer(self._system, self._controller, horizon)
        return self._flyers[horizon]

    def fly(
        self, controller: ControllerParams, index: int, stage: Stage, flights: int, *, random_drones: bool = False
    ) -> MeasuredFlights:
        """Flights under the noise and displacement of ``stage``, the curriculum's ``index``-th."""
        kind = (stage.horizon, flights, random_drones)
        if kind not in self._measures:
            self._measures[kind] = make_flight_measure(
                self._system, self.flyer(stage.horizon), self._settings.scenes, flights, random_drones=random_drones
            )
        key = report_key(self._root, FIRST_STAGE + index)
        return self._measures[kind](controller, stage.noise, stage.augment, key)

    def report(self, controller: ControllerParams, index: int, stage: Stage) -> dict[str, float]:
        """Metrics of ``monitor.flights`` flights."""
        flights = self._settings.curriculum.monitor.flights
        return flight_report(self.fly(controller, index, stage, flights).flown.metrics)

    def robust_report(self, controller: ControllerParams, index: int, stage: Stage) -> dict[str, float]:
        """Metrics of ``monitor.robust_flights`` flights with randomised drones; empty if that is 0."""
        flights = self._settings.curriculum.monitor.robust_flights
        if not flights:
            return {}
        return flight_report(self.fly(controller, index, stage, flights, random_drones=True).flown.metrics)


def prefixed(prefix: str, report: dict[str, float]) -> dict[str, float]:
    """Metric names of a report: ``eval/success_rate`` and so on."""
    return {f"{prefix}/{name}": value for name, value in report.items()}
