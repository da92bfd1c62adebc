"""Policies of swarms, told of the other drones: what is refused, and flights as in the evaluation."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from drone_cbf.errors import ObservationError
from drone_cbf.serving.fields import example_observations, fields_of
from drone_cbf.serving.nearest import nearest_others
from drone_cbf.serving.observations import check_observations
from drone_cbf.serving.service import PolicyService
from tests.serving.services import SYSTEM as ALONE
from tests.serving.swarms import (
    DRONES,
    PARAMS,
    STEPS,
    SYSTEM,
    assert_same_flights,
    evaluation,
    flown_by_answers,
    swarm_scene_of,
)

SWARM = {"swarm": True}


@pytest.fixture(scope="module")
def service() -> PolicyService:
    return PolicyService(SYSTEM, PARAMS)


def batch(**changes: Any) -> dict[str, Any]:
    """Two observations with three others each; a change of None leaves the field out."""
    one = {name: np.repeat(values, 2, axis=0) for name, values in example_observations(**SWARM).items()}
    rng = np.random.default_rng(3)
    told = {"others": rng.normal(size=(2, 3, 3)), "other_velocities": rng.normal(size=(2, 3, 3))}
    return {name: value for name, value in (one | told | changes).items() if value is not None}


def changed(name: str, place: tuple[int, ...], value: float, **more: Any) -> dict[str, Any]:
    fields = batch(**more)
    fields[name][place] = value
    return fields


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (batch(others=None), "others is missing .*send position, velocity, goal, .* others, other_velocities"),
        (batch() | {"other_velocities": None}, "other_velocities is null"),
        (batch(other_velocity=np.zeros((2, 3, 3))), "did you mean other_velocities?"),
        (batch(others=np.zeros((2, 3))), r"others has shape \(2, 3\), expected \(2, k, 3\).* as \[\[\[...\]\]\]"),
        (batch(other_velocities=np.zeros((2, 2, 3))), r"other_velocities has shape \(2, 2, 3\), expected \(2, 3, 3\)"),
        (batch(other_mask=np.ones((2, 2), bool)), r"others has shape \(2, 3, 3\), expected \(2, 2, 3\)"),
        (batch(other_mask=np.ones((2, 3))), "other_mask holds values of type float64.* for each other drone"),
        (batch(others=[[[0.0] * 3], []]), "others is ragged.*fill up with drones that are masked out"),
        (changed("others", (1, 2, 0), np.nan), r"others\[1, 2, 0\] = nan .*mask out drones .*by other_mask"),
        (changed("others", (1, 2, 0), 1e10), r"others\[1, 2, 0\] = 10000000000.0 is out of range"),
        (changed("other_velocities", (0, 0, 1), 300.0), r"other_velocities\[0, 0, 1\] = 300.0 is out of range"),
    ],
)
def test_a_wrong_request_is_refused_by_name(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ObservationError, match=message) as caught:
        check_observations(fields, 1, **SWARM)
    assert "\n" not in str(caught.value)


def test_a_policy_that_flies_alone_refuses_others() -> None:
    with pytest.raises(ObservationError, match="others is not what this policy sees by; remove it"):
        check_observations(example_observations(**SWARM), 2)
    assert "others" in fields_of(SYSTEM).required and "others" not in fields_of(ALONE).required


def test_nobody_may_be_near_and_masked_out_drones_hold_anything() -> None:
    nobody = check_observations(batch(others=[[], []], other_velocities=[[], []]), 1, **SWARM)
    assert nobody.others.shape == (2, 0, 3) and nobody.other_mask.shape == (2, 0)
    there = np.array([[True, False, True], [False, True, True]])
    fields = changed("others", (0, 1), np.nan, other_mask=there)
    assert check_observations(fields, 1, **SWARM).others[0, 1].tolist() == [0.0] * 3


@pytest.mark.parametrize(("told", "slots"), [(7, 3), (2, 5), (0, 2)])
def test_the_nearest_within_the_sensing_radius_take_the_slots(told: int, slots: int) -> None:
    rng, far = np.random.default_rng(1), np.array([4e5, 5e6, 100.0])
    fields = batch(others=rng.normal(size=(2, told, 3)) + far, other_velocities=rng.normal(size=(2, told, 3)))
    fields |= {"position": np.tile(far, (2, 1)), "other_mask": rng.random((2, told)) > 0.2}
    request = check_observations(fields, 1, **SWARM)
    near = nearest_others(request, request.position - 2.0, slots, 1.5)
    assert near.position.shape == (2, slots, 3) and near.there.shape == (2, slots)
    for row in range(2):
        apart = np.linalg.norm(fields["others"][row] - far, axis=-1)
        wanted = [k for k in np.argsort(apart) if apart[k] < 1.5 and fields["other_mask"][row, k]][:slots]
        assert near.there[row].sum() == len(wanted)
        expected = (fields["others"][row, wanted] - far + 2.0).astype(np.float32)
        np.testing.assert_array_equal(near.position[row, : len(wanted)], expected)
        np.testing.assert_allclose(
            near.velocity[row, : len(wanted)], fields["other_velocities"][row, wanted], rtol=1e-6
        )
        assert (near.position[row, len(wanted) :] == 0.0).all()


def test_order_and_what_is_out_of_range_do_not_matter_but_who_is_near_does(service: PolicyService) -> None:
    given = batch(others=np.array([[[0.3, 0.0, 1.1], [0.0, 0.4, 1.0], [5.0, 0.0, 1.0]]] * 2))
    given["velocity"] = np.tile([0.4, 0.0, 0.0], (2, 1))
    given["points"] = np.tile([30.0, 0.0, 0.0], (2, 2, 1))
    first = service(given)
    turned = {name: given[name][:, [2, 1, 0]] for name in ("others", "other_velocities")}
    np.testing.assert_array_equal(service({**given, **turned})["command"], first["command"])
    fewer = {name: given[name][:, :2] for name in ("others", "other_velocities")}
    np.testing.assert_array_equal(service({**given, **fewer})["command"], first["command"])
    nobody = service({**given, "other_mask": np.zeros((2, 3), bool)})
    assert (nobody["h"] > first["h"]).all()


@pytest.mark.parametrize("noise", [0.0, pytest.param(0.01, marks=pytest.mark.slow)])
def test_the_served_controller_flies_the_swarms_of_the_evaluation(service: PolicyService, noise: float) -> None:
    scene = swarm_scene_of(SYSTEM)
    flown = jax.device_get(evaluation(SYSTEM, noise)(PARAMS, scene))
    answers = flown_by_answers(service, scene, SYSTEM, noise)
    decisions = flown.decisions
    assert_same_flights(answers, decisions)
    assert decisions.command.shape == (DRONES, STEPS, 3)
    assert flown.others.gap.min() < 0.3 and np.mean(decisions.status == 1) > 0.02, "they meet, and give way"
