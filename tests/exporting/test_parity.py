"""What deviates from the served policy is found, and refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from drone_cbf.errors import ExportError
from drone_cbf.exporting.drone_policy import Policy
from drone_cbf.exporting.latency import by_turns, figures
from drone_cbf.exporting.parity import ParityFlight, deviation, fly_served, refuse_deviation
from tests.exporting.exported import averaging_service, written
from tests.serving.services import SYSTEM

STEPS, WRONG, BY = 8, 5, 0.25


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    rays = SYSTEM.sensor.lidar_azimuths * SYSTEM.sensor.lidar_elevations
    return Policy(written(tmp_path_factory.mktemp("parity") / "policy", "stablehlo", slots=rays))


@pytest.fixture(scope="module")
def flown() -> tuple[list[dict[str, Any]], list[Any]]:
    return fly_served(averaging_service(), SYSTEM, ParityFlight(steps=STEPS))


def test_the_same_answers_do_not_deviate(policy: Policy, flown: tuple[list[Any], list[Any]]) -> None:
    found = deviation(policy, *flown)
    assert found.largest["command"] < 1e-5 and found.largest["h"] < 1e-5 and found.statuses == 0
    refuse_deviation("stablehlo", found, 1e-4)


def test_the_flight_moves_and_its_sensor_sees(flown: tuple[list[Any], list[Any]]) -> None:
    asked, _ = flown
    way = np.linalg.norm(asked[-1]["position"] - asked[0]["position"])
    hits = np.linalg.norm(asked[0]["points"][0], axis=-1) < SYSTEM.sensor.range + 20.0
    assert len(asked) == STEPS and way > 0.01 and 0 < hits.sum() < hits.size


@pytest.mark.parametrize("wrong", [BY, np.nan])
def test_one_other_command_is_found_and_refused(
    policy: Policy, flown: tuple[list[Any], list[Any]], wrong: float
) -> None:
    asked, answers = flown
    other = {**answers[WRONG], "command": answers[WRONG]["command"] + np.array([[0.0, wrong, 0.0]])}
    found = deviation(policy, asked, [*answers[:WRONG], other, *answers[WRONG + 1 :]])
    assert found.step == WRONG
    assert found.largest["command"] == (pytest.approx(BY, abs=1e-4) if wrong == BY else np.inf)
    with pytest.raises(ExportError, match=r"stablehlo commands otherwise .* at step 5, allowed 0.01; nothing was"):
        refuse_deviation("stablehlo", found, 0.01)


def test_latencies_are_measured_by_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    now, order = [0.0], []

    def taking(name: str, seconds: float):
        def call() -> None:
            order.append(name)
            now[0] += seconds

        return call

    monkeypatch.setattr("drone_cbf.exporting.latency.time.perf_counter", lambda: now[0])
    taken = figures(by_turns({"fast": taking("fast", 0.001), "slow": taking("slow", 0.004)}, 50))
    assert order == ["fast", "slow"] * (len(order) // 2)
    assert taken["fast"]["p50"] == pytest.approx(1.0) and taken["slow"]["p99"] == pytest.approx(4.0)
