"""Exported programs answer as the service does, with a memory, far away, in any batch, and without this package."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drone_cbf.errors import ExportError
from drone_cbf.exporting.drone_policy import Policy
from drone_cbf.exporting.folder import write_folder
from drone_cbf.exporting.programs import check_installed
from drone_cbf.serving.clouds import fitted_cloud, urgency_in
from drone_cbf.serving.observations import check_observations
from drone_cbf.serving.packing import packed
from drone_cbf.serving.service import PolicyService
from tests.exporting.exported import SLOTS, asked_alone, averaging_service, flight, served, written
from tests.serving.controllers import gathering_controller
from tests.serving.services import SYSTEM
from tests.serving.swarms import PARAMS as SWARM_PARAMS
from tests.serving.swarms import SYSTEM as SWARM

ROUNDING = 1e-5
"""Of numbers below 50 in float32, relative to the origin."""


@pytest.fixture(scope="module")
def stablehlo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("exported") / "policy", "stablehlo")


def assert_same(own: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(own) == len(expected)
    for one, other in zip(own, expected, strict=True):
        for name in ("command", "nominal_command", "h"):
            np.testing.assert_allclose(one[name], other[name], rtol=ROUNDING, atol=ROUNDING, err_msg=name)
        assert list(one["status"]) == list(other["status"])


@pytest.mark.parametrize("form", ["stablehlo", "onnx"])
def test_a_flight_far_away_is_that_of_the_service_in_a_process_without_this_package(
    form: str, stablehlo: Path, tmp_path: Path
) -> None:
    folder = stablehlo if form == "stablehlo" else written(tmp_path / "policy", form)
    asked = flight(steps=5)  # 30 m a step: the origin moves with it
    expected = served(averaging_service(), asked)
    assert_same(asked_alone(folder, form, asked), expected)
    assert np.abs(expected[-1]["command"]).max() > 10.0, "the memory holds positions left behind"


@pytest.mark.parametrize("batch", [1, 2, 3, 7])
def test_stablehlo_takes_a_batch_of_any_size_of_flights_that_do_not_meet(stablehlo: Path, batch: int) -> None:
    policy, asked, memory, own = Policy(stablehlo), flight(3, batch), None, []
    for fields in asked:
        answer, memory = policy(memory, **fields)
        own.append(answer)
    assert_same(own, served(averaging_service(), asked))


def test_the_loader_hands_over_what_the_service_does(stablehlo: Path) -> None:
    rng, (fields,) = np.random.default_rng(2), flight(1, batch=2)
    more = {"point_velocities": rng.normal(size=(2, 4, 3)), "point_spread": rng.random((2, 4)), "noise": [0.1, 0.2]}
    told = {"thrust": rng.normal(size=(2, 3)), "queue": rng.normal(size=(2, 4, 3))}
    asked = {"mask": fields.pop("mask"), **fields, **more, **told}  # the mask first: no order is asked for
    service, anchor = averaging_service(), asked["position"] - 1.5
    memory = tuple(np.tile(leaf, (2, 1)) for leaf in service.first)
    position = asked.pop("position")
    given, origin = Policy(stablehlo).pack((anchor, *memory), position, asked)
    request = check_observations({**asked, "position": position}, 2)
    np.testing.assert_array_equal(origin, anchor)
    cloud = fitted_cloud(request, anchor, (SLOTS,), urgency_in(SYSTEM)).values
    expected = packed(request, cloud, anchor, origin, type(service.first)(*memory), 2)
    for own, other in zip(given, expected, strict=True):
        np.testing.assert_array_equal(own, other)


def test_more_points_than_slots_and_unknown_fields_are_refused(stablehlo: Path) -> None:
    policy, (fields,) = Policy(stablehlo), flight(1)
    with pytest.raises(ValueError, match=f"7 points, more than the {SLOTS} slots"):
        policy(None, **{**fields, "points": np.zeros((1, 7, 3)), "mask": np.ones((1, 7))})
    with pytest.raises(ValueError, match="wind is no field"):
        policy(None, **fields, wind=[[0.0, 0.0, 0.0]])


def test_a_missing_package_is_named_with_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "jax2onnx" else found(name))
    check_installed(("stablehlo",))
    with pytest.raises(ExportError, match=r"onnx needs jax2onnx; install: pip install -e '.\[export\]'.*--no-deps"):
        check_installed(("stablehlo", "onnx"))


def test_the_program_of_a_swarm_is_told_of_the_others_that_the_service_is_told_of(tmp_path: Path) -> None:
    service = PolicyService(SWARM, SWARM_PARAMS, gathering_controller())
    write_folder(tmp_path / "swarm", SWARM, service, SLOTS, ("stablehlo",), "models:/swarm/1")
    rng, asked = np.random.default_rng(5), flight(steps=4, batch=3)
    for fields in asked:
        near = fields["position"][:, None] + 0.6 * rng.normal(size=(3, 5, 3))
        there = rng.random((3, 5)) > 0.2
        fields |= {"others": np.where(there[..., None], near, np.nan), "other_mask": there}
        fields["other_velocities"] = rng.normal(size=(3, 5, 3))
    policy, memory, own = Policy(tmp_path / "swarm"), None, []
    for fields in asked:
        answer, memory = policy(memory, **fields)
        own.append(answer)
    expected = served(service, asked)
    assert_same(own, expected)
    assert {float(count) for answer in expected for count in answer["h"]} == {1.0, 2.0}, "some see one, some two"
    with pytest.raises(ValueError, match="send others and other_velocities"):
        policy(None, **{name: value for name, value in asked[0].items() if not name.startswith("other")})
