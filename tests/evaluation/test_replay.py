"""The worst flights of an evaluation: found, stored without pickle, and flown again to the same bits."""

import io
import pickle
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf import flights
from drone_cbf.config import SceneConfig
from drone_cbf.controller import ControllerParams, Decision
from drone_cbf.errors import ConfigError
from drone_cbf.evaluation import worst
from drone_cbf.evaluation.matrix import evaluate_matrix
from drone_cbf.evaluation.replay import batches, flown_states, fly_again, same_bits
from drone_cbf.evaluation.replay_files import packed, unpacked
from drone_cbf.evaluation.settings import EvaluationSettings
from drone_cbf.evaluation.worst import SOLVER_FAILURE, VIOLATION, ReplayStates, WorstFlights
from drone_cbf.flights import make_flyer
from drone_cbf.safety.records import Status
from drone_cbf.scenes.slots import Slots, slots_of
from tests.perception.worlds import random_barrier, random_policy, small_system

SYSTEM = small_system(scene=SceneConfig(obstacles=12, cloud_obstacles=12, ring_obstacles=4))
SETTINGS = EvaluationSettings(
    scenarios=("random_cloud",), noise=(0.0, 0.05), goals=("random", "shifted"), rollouts=10, horizon=40, blend=0.5
)
PARAMS = ControllerParams(
    policy=random_policy(SYSTEM), barrier=random_barrier(SYSTEM), margin=jnp.float32(0.5), blend=jnp.float32(0.5)
)
KEPT, BATCH = 5, 4
"""Of ten flights a cell, computed four at once."""


def make_careless_pilot(system):
    """Compiles in no time, flies straight to the goal and through what is in the way; listens to policy and blend."""

    def decide(params, memory, graph):
        push = 1.0 + params.blend * sum(jnp.mean(leaf) for leaf in jax.tree.leaves(params.policy))
        command = 8.0 * push * graph.goal - graph.velocity
        zero, status = jnp.float32(0.0), jnp.int32(Status.INTERVENED)
        return memory, Decision(command=command, nominal=command, barrier=push, slack=zero, status=status)

    return decide


@pytest.fixture(scope="module")
def fly():
    return make_flyer(SYSTEM, make_careless_pilot(SYSTEM), SETTINGS.horizon)


@pytest.fixture(scope="module")
def evaluated(fly):
    """The worst flights, and every watched cell."""
    kept, watched = WorstFlights(SETTINGS.blend), []

    def watch(cell, flown):
        watched.append((cell, flown))
        kept.watch(cell, flown)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flights, "CHUNK", BATCH)
        patch.setattr(worst, "WORST", KEPT)
        evaluate_matrix(SYSTEM, SETTINGS, PARAMS, {True: fly}, lambda index, cell: None, watch)
        return kept.states(), watched


def test_the_flights_kept_are_those_with_the_greatest_violations_of_all_cells(evaluated):
    states, watched = evaluated
    every = {(cell.name, i): v for cell, flown in watched for i, v in enumerate(flown.metrics.violation.max(1))}
    expected = sorted(every.values(), reverse=True)[:KEPT]
    assert len(watched) == 4 and len(every) == 40
    np.testing.assert_array_equal(states.violation, expected)
    assert expected[-1] > 0.0 and set(states.reasons) == {VIOLATION}
    assert {(cell, v) for cell, v in zip(states.cells, states.violation, strict=True)} <= {
        (name, v) for (name, _), v in every.items()
    }


def test_the_moment_kept_is_that_of_the_greatest_violation(evaluated, fly):
    states, _ = evaluated
    violation = fly_again(fly, PARAMS, states).flown.metrics.violation
    np.testing.assert_array_equal(violation[np.arange(KEPT), states.steps], states.violation)


def test_the_same_policy_flies_them_again_to_the_last_bit(evaluated, fly):
    states, _ = evaluated
    again = flown_states(states, fly_again(fly, PARAMS, unpacked(packed(states), "file")))
    assert same_bits(states, again).all()
    np.testing.assert_array_equal(again.violation, states.violation)
    np.testing.assert_array_equal(again.clearance, states.clearance)


def test_another_policy_or_another_key_flies_them_differently_and_that_is_said(evaluated, fly):
    states, _ = evaluated
    other = PARAMS.replace(policy=random_policy(SYSTEM, 1))
    assert not same_bits(states, flown_states(states, fly_again(fly, other, states))).any()
    noisy = states.noise > 0.0
    assert noisy.any() and not noisy.all()
    drawn = flown_states(states, fly_again(fly, PARAMS, replace(states, keys=states.keys + np.uint32(1))))
    np.testing.assert_array_equal(same_bits(states, drawn)[noisy], False)


def test_the_blend_is_the_one_of_that_time(evaluated, fly):
    states, _ = evaluated
    ignored = PARAMS.replace(blend=jnp.float32(1.0))
    assert same_bits(states, flown_states(states, fly_again(fly, ignored, states))).all()
    assert not same_bits(states, flown_states(states, fly_again(fly, PARAMS, replace(states, blend=1.0)))).all()


def test_flights_in_which_the_solver_failed_are_kept_most_failures_first_with_the_first_of_them(evaluated):
    _, watched = evaluated
    cell, flown = watched[0]
    status = np.zeros_like(flown.status)
    status[3, 2:4], status[7, 5:] = Status.FALLBACK, Status.FALLBACK
    kept = WorstFlights(SETTINGS.blend)
    kept.watch(cell, replace(flown, status=status))
    states = kept.states()
    failed = states.reasons == SOLVER_FAILURE
    np.testing.assert_array_equal(states.failures[failed], [SETTINGS.horizon - 5, 2])
    np.testing.assert_array_equal(states.steps[failed], [5, 2])
    np.testing.assert_array_equal(states.status[failed], Status.FALLBACK)
    keys = np.asarray(jax.random.key_data(flown.keys))
    np.testing.assert_array_equal(states.keys[failed], keys[[7, 3]])
    np.testing.assert_array_equal(states.rows[failed], [7 % BATCH, 3])


def test_a_violation_that_is_not_a_number_is_the_worst(evaluated):
    _, watched = evaluated
    cell, flown = watched[0]
    spoilt = flown.metrics.violation.copy()
    spoilt[6, 1] = np.nan
    kept = WorstFlights(SETTINGS.blend)
    kept.watch(cell, replace(flown, metrics=flown.metrics.replace(violation=spoilt)))
    first = kept.states()
    assert np.isnan(first.violation[0]) and first.steps[0] == 1
    np.testing.assert_array_equal(first.keys[0], jax.random.key_data(flown.keys)[6])


def test_each_flight_is_computed_in_its_row_and_rows_wanted_twice_take_another_batch(evaluated):
    states, _ = evaluated
    crowded = replace(worst.chosen(states, [0, 1, 2, 3]), rows=np.array([1, 3, 1, 1]))
    assert list(batches(crowded)) == [{1: 0, 3: 1}, {1: 2}, {1: 3}]


def test_what_is_stored_comes_back_as_it_was(evaluated):
    states, _ = evaluated
    back = unpacked(packed(states), "file")
    assert isinstance(back, ReplayStates) and (back.blend, back.horizon) == (0.5, 40)
    np.testing.assert_array_equal(back.batches, BATCH)
    for name in worst.LISTED:
        jax.tree.map(np.testing.assert_array_equal, getattr(back, name), getattr(states, name))


def file_with(states, **changes):
    with np.load(io.BytesIO(packed(states))) as file:
        arrays = {name: file[name] for name in file.files} | changes
    buffer = io.BytesIO()
    np.savez(buffer, **{name: value for name, value in arrays.items() if value is not None})
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"format": np.int64(4)}, "not of format 2 or 3"),
        (
            {"scenes.obstacles.boxes.centre": np.zeros((5, 1, 3), np.float32)},
            r"holds scenes.obstacles.boxes.centre of shape \(5, 1, 3\), expected \(5, 0, 3\)",
        ),
        ({"keys": None}, "lacks keys"),
        ({"cells": np.array([{}], object)}, "no file of flights"),
        ({"blend": np.float64("nan")}, "holds blend = nan, expected 0.0 to 1.0"),
        ({"blend": np.float64(77.0)}, "holds blend = 77.0, expected"),
        ({"blend": np.array("1")}, "holds blend of type <U1, expected numbers"),
        ({"noise": np.full(5, np.nan, np.float32)}, "holds noise = nan, expected 0.0 to 1.0"),
        ({"noise": np.zeros(0, np.float32)}, "holds 0 flights, expected 1 to 4096"),
        ({"noise": np.float32(0.0)}, "holds 0 flights"),
        ({"violation": np.full(5, np.nan)}, "holds violation = nan of a flight that ended at a place"),
        ({"violation": np.array(["x"] * 5)}, "holds violation of type <U1, expected numbers"),
        ({"rows": np.full(5, -1)}, "holds rows = -1, expected 0 to 3"),
        ({"rows": np.full(5, 4)}, "holds rows = 4, expected 0 to 3"),
        ({"rows": np.full(5, 0.5)}, "holds rows of type float64, expected whole numbers"),
        ({"steps": np.full(5, 40)}, "holds steps = 40, expected 0 to 39"),
        ({"scenes.start": np.full((5, 3), np.nan, np.float32)}, "holds scenes.start with values that are not finite"),
        ({"scenes.start": np.full((5, 3), "x")}, "holds scenes.start of type <U1, expected numbers"),
        ({"slots": np.full((5, 4), -1)}, "holds slots = -1, expected 0 to"),
        ({"slots": np.full((5, 4), 2**40)}, "holds slots = 1099511627776, expected"),
        ({"horizon": np.int64(0)}, "holds horizon = 0, expected 1 to 2000"),
        ({"horizon": np.int64(-5)}, "holds horizon = -5"),
        ({"horizon": np.int64(10**9)}, "holds horizon = 1000000000"),
        ({"horizon": np.float64("nan")}, "holds horizon of type float64, expected whole numbers"),
        ({"batch": np.int64(0)}, "holds batch = 0, expected 1 to"),
        ({"batch": np.int64(10**9)}, "holds batch = 1000000000"),
        ({"batch": np.ones(2, int)}, r"holds batch of shape \(2,\)"),
        ({"keys": np.zeros((5, 4), np.uint32)}, r"holds keys of shape \(5, 4\), expected \(5, 2\)"),
        ({"keys": np.zeros((5, 2), np.float32)}, "holds keys of type float32"),
        ({"status": np.full(5, 99)}, "holds status = 99, expected 0 to"),
        ({"format": np.zeros(2, int)}, "not of format 2 or 3"),
        ({"more": np.zeros(1 << 26)}, "holds more than 268,435,456 bytes"),
        ({"scenes.goal": np.zeros((5, 2), np.float32)}, r"holds scenes.goal of shape \(5, 2\)"),
    ],
)
def test_a_file_that_was_altered_is_refused_in_one_line(evaluated, changes, complaint):
    with pytest.raises(ConfigError, match=f"replay = worst.npz.*{complaint}.*name an evaluate run"):
        unpacked(file_with(evaluated[0], **changes), "worst.npz")


@pytest.mark.slow
def test_flights_among_different_shapes_are_stored_together_and_fly_again_to_the_same_bits(fly):
    kept = WorstFlights(SETTINGS.blend)
    given = {"scenarios": ("random_cloud", "windows"), "noise": (0.05,), "goals": ("random",), "rollouts": 3}
    settings = SETTINGS.model_copy(update=given)
    evaluate_matrix(SYSTEM, settings, PARAMS, {True: fly}, lambda index, cell: None, kept.watch)
    states = unpacked(packed(kept.states()), "file")
    assert {tuple(row) for row in states.slots} == {(12, 0, 0, 0), (0, 8, 0, 0)}
    assert slots_of(states.scenes.obstacles) == Slots(capsules=12, boxes=8)
    again = flown_states(states, fly_again(fly, PARAMS, states))
    assert same_bits(states, again).all() and len(set(states.cells)) == 2


def test_a_file_from_when_all_obstacles_were_capsules_flies_to_the_same_bits(evaluated, fly):
    states, _ = evaluated
    with np.load(io.BytesIO(packed(states))) as file:
        arrays = {name: file[name] for name in file.files if name != "slots"}
    shapes = {name: arrays.pop(name) for name in list(arrays) if name.startswith("scenes.obstacles.")}
    old = {name.replace(".capsules", ""): leaf for name, leaf in shapes.items() if ".capsules" in name}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays | old | {"format": np.int64(1)})
    again = flown_states(states, fly_again(fly, PARAMS, unpacked(buffer.getvalue(), "file")))
    assert "scenes.obstacles.centre" in old and same_bits(states, again).all()
    old.pop("scenes.obstacles.radius")
    buffer = io.BytesIO()
    np.savez(buffer, **arrays | old | {"format": np.int64(1)})
    with pytest.raises(ConfigError, match="lacks scenes.obstacles.capsules.radius; name an evaluate run"):
        unpacked(buffer.getvalue(), "file")


def test_a_flight_that_left_the_numbers_is_replayed_as_it_was_recorded(evaluated):
    states, _ = evaluated
    lost = replace(states, violation=states.violation * np.nan, end=states.end * np.nan)
    assert np.isnan(unpacked(packed(lost), "file").violation).all()


class Planted:
    """Creates a file if it is ever unpickled."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return (open, (str(self.place), "w"))


def test_a_planted_pickle_is_refused_and_never_run(evaluated, tmp_path):
    mark = tmp_path / "mark"
    planted = np.array([Planted(mark)] * 5, object)
    buffer = io.BytesIO()
    np.save(buffer, planted)
    for content in (pickle.dumps(planted), buffer.getvalue(), file_with(evaluated[0], cells=planted)):
        with pytest.raises(ConfigError, match="no file of flights to replay"):
            unpacked(content, "worst.npz")
    assert not mark.exists()
    pickle.loads(pickle.dumps(planted))
    assert mark.exists(), "the pickle was a live one"


def a_single_array():
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


@pytest.mark.parametrize("content", [b"", b"no archive", a_single_array()])
def test_what_is_no_archive_is_refused(content):
    with pytest.raises(ConfigError, match="no file of flights to replay"):
        unpacked(content, "worst.npz")


def test_flights_at_a_speed_of_their_own_are_flown_again_at_it(evaluated, fly):
    states = evaluated[0]
    told = np.linspace(1.0, 6.0, len(states)).astype(np.float32)
    fast = replace(states, scenes=states.scenes.replace(cruise=told))
    back = unpacked(packed(fast), "file")
    np.testing.assert_array_equal(back.scenes.cruise, told)
    assert unpacked(packed(states), "file").scenes.cruise is None
