"""Registered versions fly the flights of the evaluation; one that sees by images answers over HTTP."""

from __future__ import annotations

import jax
import mlflow
import numpy as np
import pytest

from drone_cbf.config import SceneName
from drone_cbf.serving.fields import example_observations
from tests.projects.model_server import free_port, in_a_thread, post
from tests.projects.test_register import registered
from tests.projects.trained import controller, evaluate_run, safety_run
from tests.serving import swarms
from tests.serving.flown import assert_same_flight, evaluation, flown_by_answers, scene_of_family
from tests.serving.services import SYSTEM
from tests.serving.test_images import COLUMNS, ROWS
from tests.serving.test_images import SYSTEM as SEEING


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


@pytest.mark.slow
def test_a_registered_policy_that_sees_by_images_is_asked_over_http(experiment: str) -> None:
    measured = evaluate_run(experiment, safety_run(experiment, system=SEEING), system=SEEING)
    registered(experiment, "seeing", f"--run={measured}")
    model, port = mlflow.pyfunc.load_model("models:/seeing@challenger"), free_port()
    address, asked = f"http://127.0.0.1:{port}/invocations", example_observations((ROWS, COLUMNS))
    body = {name: values.tolist() for name, values in asked.items()}
    with in_a_thread(model, port):
        status, answer = post(address, {"inputs": body})
        assert status == 200, answer
        first, expected = answer["predictions"], model.predict(asked)
        np.testing.assert_allclose(first["command"], expected["command"], atol=1e-5)
        np.testing.assert_allclose(first["look"], expected["look"], atol=1e-5)
        later = post(address, {"inputs": {**body, "memory": first["memory"]}})[1]["predictions"]
        expected = model.predict({**asked, "memory": np.array(first["memory"])})
        np.testing.assert_allclose(later["command"], expected["command"], atol=1e-5)
        nearer = np.full((1, ROWS, COLUMNS), 0.3).tolist()
        assert post(address, {"inputs": {**body, "image": nearer}})[1]["predictions"]["h"] != first["h"]
        status, error = post(address, {"inputs": {**body, "image": [[[0.0] * 9] * ROWS]}})
        assert status == 400 and "image has shape (1, 12, 9), expected (1, 12, 16)" in error["message"]
        status, error = post(address, {"inputs": {**body, "yaw": None}})
        assert status == 400 and "yaw is null" in error["message"]


@pytest.mark.slow
def test_a_registered_policy_of_a_swarm_flies_the_swarms_of_the_evaluation_and_is_told_of_others_over_http(
    experiment: str,
) -> None:
    system = swarms.SYSTEM
    measured = evaluate_run(experiment, safety_run(experiment, system=system), system=system, blend=0.0)
    registered(experiment, "swarm", f"--run={measured}")
    model, port = mlflow.pyfunc.load_model("models:/swarm@challenger"), free_port()
    scene = swarms.swarm_scene_of(system)
    flown = swarms.evaluation(system, 0.0)(controller(blend=0.0, system=system), scene)
    swarms.assert_same_flights(
        swarms.flown_by_answers(model.predict, scene, system, 0.0), jax.device_get(flown.decisions)
    )
    names = [column.name for column in model.metadata.signature.inputs if column.required]
    assert names[-2:] == ["others", "other_velocities"]
    address, asked = f"http://127.0.0.1:{port}/invocations", example_observations(swarm=True)
    body = {name: values.tolist() for name, values in asked.items()}
    with in_a_thread(model, port):
        status, answer = post(address, {"inputs": body})
        assert status == 200, answer
        np.testing.assert_allclose(answer["predictions"]["command"], model.predict(asked)["command"], atol=1e-5)
        nobody = post(address, {"inputs": {**body, "others": [[]], "other_velocities": [[]]}})[1]["predictions"]
        assert nobody["h"][0] > answer["predictions"]["h"][0]
        status, error = post(address, {"inputs": {**body, "others": [[[0.1, 0.2]]]}})
        assert status == 400 and "others has shape (1, 1, 2), expected (1, k, 3)" in error["message"]
        status, error = post(address, {"inputs": {name: body[name] for name in body if name != "others"}})
        assert status == 400 and "others is missing" in error["message"]
