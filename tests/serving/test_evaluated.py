"""What was evaluated is what is served: the same flights, asked for through the door, command by command."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from drone_cbf.config import SceneName
from drone_cbf.controller import ControllerParams
from tests.serving.flown import assert_same_flight, evaluation, flown_by_answers, scene_of_family
from tests.serving.services import ANALYTIC, NEARLY_ANALYTIC, SYSTEM, lidar_service, with_params


@pytest.mark.slow
@pytest.mark.parametrize("family", ["windows", "boxes"])
@pytest.mark.parametrize("params", [ANALYTIC, NEARLY_ANALYTIC], ids=["analytic", "neural"])
def test_the_served_controller_flies_the_flights_of_the_evaluation(family: SceneName, params: ControllerParams) -> None:
    scene = scene_of_family(family, SYSTEM)
    decisions = jax.device_get(evaluation(SYSTEM)(params, scene).decisions)
    assert_same_flight(flown_by_answers(with_params(lidar_service(), params), scene, SYSTEM), decisions)
    assert np.linalg.norm(decisions.command, axis=-1).max() > 3.0
