from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from drone_cbf.errors import ObservationError
from drone_cbf.serving.fields import (
    MEANING,
    OF_IMAGES,
    OPTIONAL,
    REQUIRED,
    SHAPES,
    among_others,
    example_observations,
)
from drone_cbf.serving.observations import check_observations

QUEUE = 2


def batch(**changed: Any) -> dict[str, Any]:
    """Three observations with four points each; ``changed`` replaces fields, None removes them."""
    rng = np.random.default_rng(0)
    fields: dict[str, Any] = {name: rng.normal(size=(3, 3)) for name in ("position", "velocity", "goal")}
    fields |= {"points": rng.normal(size=(3, 4, 3)), "mask": rng.random((3, 4)) < 0.5}
    return {name: value for name, value in {**fields, **changed}.items() if value is not None}


def changed(name: str, place: tuple[int, ...], value: float) -> dict[str, Any]:
    fields = batch(point_velocities=np.zeros((3, 4, 3)), mask=np.ones((3, 4), bool))
    fields[name] = fields[name].copy()
    fields[name][place] = value
    return fields


def test_lists_and_arrays_of_any_number_type_become_the_same_arrays_and_positions_keep_float64() -> None:
    whole = {"position": np.array([[1, 2, 3]]), "velocity": np.zeros((1, 3), int), "goal": np.ones((1, 3), np.float64)}
    arrays = {**whole, "points": np.ones((1, 2, 3), np.float16), "mask": np.array([[True, False]])}
    lists = {name: value.tolist() for name, value in arrays.items()}
    for name in REQUIRED:
        left, right = (getattr(check_observations(given, QUEUE), name) for given in (arrays, lists))
        assert left.dtype == {"mask": bool, "velocity": np.float32}.get(name, np.float64)
        np.testing.assert_array_equal(left, right)


def test_what_is_left_out_is_measured_exactly_and_else_not_known() -> None:
    checked = check_observations(batch(), QUEUE)
    assert checked.noise.shape == (3,) and not checked.noise.any()
    assert checked.thrust is None and checked.queue is None
    assert checked.point_velocities is None and checked.point_spread is None and checked.memory is None
    given = np.arange(9.0).reshape(3, 3)
    np.testing.assert_array_equal(check_observations(batch(thrust=given), QUEUE).thrust, given)


def test_masked_out_points_may_hold_anything() -> None:
    mask = np.array([[True, True, False, False]] * 3)
    points = np.ones((3, 4, 3))
    points[:, 2], points[:, 3] = np.nan, np.inf
    checked = check_observations(batch(points=points, mask=mask, point_velocities=points), QUEUE)
    assert np.all(checked.points[mask] == 1.0) and np.isfinite(checked.points).all()
    assert np.all(checked.point_velocities[mask] == 1.0) and np.isfinite(checked.point_velocities).all()
    checked = check_observations(batch(point_spread=np.where(mask, 0.1, -np.inf), mask=mask), QUEUE)
    np.testing.assert_array_equal(checked.point_spread, np.where(mask, np.float32(0.1), 0.0))


def test_an_empty_cloud_needs_no_third_axis() -> None:
    checked = check_observations(batch(points=[[], [], []], mask=[[], [], []]), QUEUE)
    assert checked.points.shape == (3, 0, 3) and checked.mask.shape == (3, 0)


def test_a_queue_may_be_longer_than_the_delay_and_its_newest_commands_count() -> None:
    queue = np.arange(45.0).reshape(3, 5, 3)
    np.testing.assert_array_equal(check_observations(batch(queue=queue), QUEUE).queue, queue[:, :QUEUE])


def test_points_of_any_finite_size_are_far_points() -> None:
    assert check_observations(changed("points", (2, 3, 0), 1e300), QUEUE).points[2, 3, 0] == 1e300


def test_objects_within_objects_are_what_a_table_from_parquet_holds() -> None:
    plain = batch(point_spread=np.full((3, 4), 0.1), noise=np.full(3, 0.02))
    nested = {name: [as_objects(row) for row in values] for name, values in plain.items()}
    assert nested["points"][0].dtype == object
    for name in plain:
        left, right = (getattr(check_observations(given, QUEUE), name) for given in (plain, nested))
        np.testing.assert_array_equal(left, right)
        assert left.dtype == right.dtype


def as_objects(row: np.ndarray) -> np.ndarray:
    """As pyarrow nests lists: an array of arrays, the innermost of numbers."""
    if row.ndim < 2:
        return row
    nested = np.empty(len(row), object)
    nested[:] = [as_objects(entry) for entry in row]
    return nested


def test_a_field_that_is_null_in_every_observation_is_left_out() -> None:
    checked = check_observations(batch() | {"thrust": [None] * 3, "noise": None, "memory": [None] * 3}, QUEUE)
    assert checked.thrust is None and checked.memory is None


SEEN = {"mask": np.ones((3, 4), bool)}
BAD: list[tuple[dict[str, Any], str]] = [
    (
        batch(goal=None),
        r"goal is missing \(where to fly, world frame \[m\]: 3 numbers\); send position, velocity, goal",
    ),
    (batch() | {"goal": None}, "goal is null .*; send position, velocity, goal"),
    (batch(point_velocity=np.zeros((3, 4, 3))), "point_velocity is no field .*; did you mean point_velocities?"),
    (batch(weather="calm"), r"weather is no field of an observation; remove it. The fields: position, velocity"),
    (
        batch(position=np.zeros(3)),
        r"position has shape \(3\), expected \(batch, 3\) .*send one observation as \[\[...\]\]$",
    ),
    (batch(points=np.zeros((4, 3))), r"points has shape \(4, 3\), expected \(3, 4, 3\).* as \[\[\[...\]\]\]$"),
    (batch(noise=0.1), r"noise has shape \(\), expected \(3\).* as \[...\]$"),
    (batch(position=np.zeros((0, 3))), "the batch is empty"),
    (batch(velocity=np.zeros((2, 3))), r"velocity has shape \(2, 3\), expected \(3, 3\)"),
    (batch(velocity=np.zeros((3, 2))), r"velocity has shape \(3, 2\), expected \(3, 3\)"),
    (batch(points=np.zeros((3, 5, 3))), r"points has shape \(3, 5, 3\), expected \(3, 4, 3\)"),
    (batch(points=np.zeros((3, 4, 2))), r"points has shape \(3, 4, 2\), expected \(3, 4, 3\)"),
    (batch(mask=np.ones(4, bool)), r"mask has shape \(4\), expected \(3, n\).* as \[\[...\]\]$"),
    (batch(mask=np.ones((3, 4))), "mask holds values of type float64, expected true or false"),
    (batch(thrust=np.zeros((3, 1))), r"thrust has shape \(3, 1\), expected \(3, 3\)"),
    (batch(thrust=[None, [0.0, 0.0, 0.0], None]), "thrust is missing in observation 0 .* or for none of it"),
    (batch(thrust=[[0.0] * 3, float("nan"), [0.0] * 3]), "thrust is missing in observation 1 .* or for none of it"),
    (
        batch(goal=[[0.0] * 3, [0.0] * 3, None]),
        "goal is missing in observation 2 .*; send it for every observation of the batch$",
    ),
    (batch(noise=[0.1, None, 0.1]), "noise is missing in observation 1"),
    (
        batch(queue=np.zeros((3, 1, 3))),
        r"queue has shape \(3, 1, 3\), expected at least \(3, 2, 3\): the transport delay",
    ),
    (batch(queue=np.zeros((3, 2, 2))), r"queue has shape \(3, 2, 2\), expected \(3, q, 3\)"),
    (batch(memory=np.zeros((2, 9))), r"memory has 2 rows, expected 3: one per observation"),
    (batch(goal=[["a", "b", "c"]] * 3), "goal holds text, expected numbers"),
    (batch(goal=[[None, 0.0, 0.0]] * 3), "goal holds mixed values or none, expected numbers"),
    (batch(goal=np.ones((3, 3), bool)), "goal holds true or false, expected numbers"),
    (batch(points=[[[0.0] * 3] * 4, [[0.0] * 3] * 3, []]), "points is ragged.*fill up with points that are masked out"),
    (batch(goal=[[0.0] * 3, [0.0] * 2, [0.0] * 3]), r"goal is ragged.*send \(batch, 3\)"),
    (changed("position", (1, 2), np.nan), r"position\[1, 2\] = nan is not finite; send a finite number"),
    (changed("goal", (0, 0), 1e20), r"goal\[0, 0\] = 1e\+20 is out of range; .* between -1e\+09 and 1e\+09"),
    (changed("velocity", (0, 0), 1e20), r"velocity\[0, 0\] = 1.*e\+20 is out of range; .* between -200 and 200"),
    (changed("points", (2, 3, 0), np.inf), r"points\[2, 3, 0\] = inf .*mask out points that are not seen"),
    (batch(point_spread=-np.ones((3, 4)), **SEEN), "point_spread holds -1.0, expected at least 0"),
    (batch(noise=-np.ones(3)), "noise holds -1.0, expected at least 0"),
    (batch(point_spread=np.zeros((3, 4, 3))), r"point_spread has shape \(3, 4, 3\), expected \(3, 4\)"),
    (changed("point_velocities", (0, 1, 1), np.nan), r"point_velocities\[0, 1, 1\] = nan"),
]


@pytest.mark.parametrize(("fields", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_a_bad_batch_is_refused_with_field_place_and_remedy(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ObservationError, match=message) as caught:
        check_observations(fields, QUEUE)
    assert "\n" not in str(caught.value)


def test_the_example_is_valid_and_every_field_is_explained() -> None:
    assert check_observations(example_observations(), QUEUE).position.shape == (1, 3)
    swarm = among_others(OF_IMAGES)
    assert check_observations(example_observations(swarm=True), QUEUE, swarm=True).others.shape == (1, 1, 3)
    assert set(MEANING) == set(SHAPES) == {*REQUIRED, *OPTIONAL, *swarm.required, *swarm.optional}
