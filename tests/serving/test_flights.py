"""Flights of many requests: what is remembered between them, and where positions are measured from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from drone_cbf.errors import ObservationError
from drone_cbf.serving.controller import ServedController
from drone_cbf.serving.fields import example_observations
from drone_cbf.serving.service import ANCHOR_REACH, PolicyService
from tests.serving.controllers import averaging_controller
from tests.serving.services import ANALYTIC, NEURAL, SYSTEM


@pytest.fixture(scope="module")
def averaging() -> PolicyService:
    return PolicyService(SYSTEM, NEURAL, averaging_controller())


def at(position: np.ndarray, memory: Any = None) -> dict[str, Any]:
    """An observation of a drone at ``position`` (3,)."""
    place = np.asarray(position, float)[None]
    return {**example_observations(), "position": place, "goal": place + np.eye(3)[0], "memory": memory}


UTM = np.array([4e5, 5e6, 300.0])


@pytest.mark.parametrize("origin", [np.zeros(3), UTM])
def test_a_flight_of_a_kilometre_is_remembered_to_a_millimetre_wherever_the_world_frame_begins(
    averaging: PolicyService, origin: np.ndarray
) -> None:
    """The mean of all positions, in float64; the anchor moves some twenty times on the way."""
    path = origin + np.cumsum(np.tile([9.1, -2.3, 0.4], (110, 1)), axis=0)
    memory, anchors = None, set()
    for step, position in enumerate(path):
        answer = averaging(at(position, memory))
        memory = answer["memory"]
        anchors.add(tuple(memory[0, 1:4]))
        assert np.linalg.norm(memory[0, 1:4] - position) <= ANCHOR_REACH
        expected = path[: step + 1].mean(axis=0) - position
        np.testing.assert_allclose(answer["command"][0], expected, atol=1e-3)
    assert len(anchors) > 15


def test_flights_of_a_batch_begin_and_go_on_each_for_itself(averaging: PolicyService) -> None:
    first = averaging(at(np.zeros(3)))["memory"]
    two = {
        name: np.repeat(values, 2, axis=0)
        for name, values in at(np.array([2.0, 0.0, 0.0])).items()
        if values is not None
    }
    answer = averaging({**two, "memory": [first[0], None]})
    np.testing.assert_allclose(answer["command"], [[-1.0, 0.0, 0.0], [0.0, 0.0, 0.0]], atol=1e-6)
    again = averaging({**two, "memory": [first[0].tolist(), float("nan")]})
    np.testing.assert_array_equal(again["memory"], answer["memory"])


def test_the_memory_of_another_version_is_refused(averaging: PolicyService) -> None:
    memory = PolicyService(SYSTEM, ANALYTIC, averaging_controller())(at(np.zeros(3)))["memory"]
    with pytest.raises(ObservationError, match="belongs to another model or version"):
        averaging(at(np.zeros(3), memory))
    again = PolicyService(SYSTEM, NEURAL, averaging_controller())(at(np.zeros(3)))["memory"]
    averaging(at(np.zeros(3), again))


def test_a_memory_that_is_not_finite_is_not_handed_out_and_the_flight_begins_anew() -> None:
    plain = averaging_controller()
    poison = ServedController(
        start=plain.start,
        step=lambda params, memory, seen: (
            {**memory, "mean": memory["mean"] / 0.0},
            plain.step(params, memory, seen)[1],
        ),
        shift=plain.shift,
    )
    service = PolicyService(SYSTEM, NEURAL, poison)
    memory = service(at(np.ones(3)))["memory"]
    np.testing.assert_array_equal(np.delete(memory[0], [0, 4]), [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    service(at(np.ones(3), memory))
