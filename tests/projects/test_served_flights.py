"""A registered version flies the flights of the evaluation, through ``predict``."""

from __future__ import annotations

import jax
import mlflow
import pytest

from drone_cbf.config import SceneName
from tests.projects.test_register import registered
from tests.projects.trained import controller, evaluate_run, safety_run
from tests.serving.flown import assert_same_flight, evaluation, flown_by_answers, scene_of_family
from tests.serving.services import SYSTEM


@pytest.mark.slow
def test_a_registered_version_flies_the_flights_of_the_evaluation(experiment: str) -> None:
    measured = evaluate_run(experiment, safety_run(experiment, system=SYSTEM), system=SYSTEM, blend=0.0)
    registered(experiment, "flown", f"--run={measured}")
    model = mlflow.pyfunc.load_model("models:/flown@challenger")
    families: tuple[SceneName, ...] = ("windows", "boxes")
    for family in families:
        scene = scene_of_family(family, SYSTEM)
        decisions = jax.device_get(evaluation(SYSTEM)(controller(blend=0.0, system=SYSTEM), scene).decisions)
        assert_same_flight(flown_by_answers(model.predict, scene, SYSTEM), decisions)
