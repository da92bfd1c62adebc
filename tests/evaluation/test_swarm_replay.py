"""The worst flights of swarms: kept with the whole scene, and flown again together to the same bits."""

import io
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf import flights
from drone_cbf.controller import ControllerParams
from drone_cbf.errors import ConfigError
from drone_cbf.evaluation import worst
from drone_cbf.evaluation.matrix import evaluate_matrix
from drone_cbf.evaluation.replay import flown_states, fly_again, same_bits, scenes_again
from drone_cbf.evaluation.replay_files import packed, unpacked
from drone_cbf.evaluation.settings import EvaluationSettings
from drone_cbf.evaluation.worst import WorstFlights, whole_scene
from drone_cbf.flights import make_flyer
from tests.evaluation.test_replay import make_careless_pilot
from tests.perception.worlds import random_barrier, random_policy
from tests.swarms import swarm_system

DRONES, SCENES, KEPT = 3, 5, 4
SYSTEM = swarm_system(DRONES)
GIVEN = {"noise": (0.02,), "goals": ("random",), "rollouts": DRONES * SCENES, "horizon": 40}
SETTINGS = EvaluationSettings(scenarios=("gcbf_linear",), **GIVEN)
MIXED = EvaluationSettings(scenarios=("gcbf_linear", "random_cloud"), **GIVEN)
PARAMS = ControllerParams(
    policy=random_policy(SYSTEM), barrier=random_barrier(SYSTEM), margin=jnp.float32(0.0), blend=jnp.float32(1.0)
)


@pytest.fixture(scope="module")
def fly():
    return make_flyer(SYSTEM, make_careless_pilot(SYSTEM), SETTINGS.horizon)


def evaluated(fly, settings):
    """The worst flights, and every watched cell; two scenes of the swarm are computed at once."""
    kept, watched = WorstFlights(1.0), []

    def watch(cell, flown):
        watched.append((cell, flown))
        kept.watch(cell, flown)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flights, "SWARM_CHUNK", 2 * DRONES + 1)
        patch.setattr(worst, "WORST", KEPT)
        evaluate_matrix(SYSTEM, settings, PARAMS, {True: fly}, lambda index, cell: None, watch)
    return kept.states(), watched


@pytest.fixture(scope="module")
def swarms(fly):
    return evaluated(fly, SETTINGS)


def test_of_each_swarm_the_worst_drone_is_kept_with_the_whole_scene(swarms):
    states, ((_, flown),) = swarms
    by_scene = flown.metrics.violation.max(1).reshape(SCENES, DRONES)
    scenes = np.argsort(-by_scene.max(1), kind="stable")[:KEPT]
    np.testing.assert_array_equal(states.violation, by_scene.max(1)[scenes])
    np.testing.assert_array_equal(states.drone, by_scene.argmax(1)[scenes])
    np.testing.assert_array_equal(states.drones, DRONES)
    np.testing.assert_array_equal(states.rows, scenes % 2)
    np.testing.assert_array_equal(states.batches, 2)
    np.testing.assert_array_equal(states.scenes.goal, np.asarray(flown.scenes.goal)[scenes])
    np.testing.assert_array_equal(states.end, flown.end.reshape(SCENES, DRONES, 3)[scenes])
    np.testing.assert_array_equal(states.own_scenes().goal[1], states.scenes.goal[1, states.drone[1]])


def test_drones_without_a_violation_are_ranked_by_their_clearance(swarms):
    _, ((cell, flown),) = swarms
    metrics = flown.metrics.replace(violation=np.zeros_like(flown.metrics.violation))
    kept = WorstFlights(1.0)
    kept.watch(cell, replace(flown, metrics=metrics))
    least = np.asarray(metrics.smallest_clearance).reshape(SCENES, DRONES)
    states = kept.states()
    np.testing.assert_array_equal(states.clearance, np.sort(least.min(1)))
    np.testing.assert_array_equal(states.drone, least.argmin(1)[np.argsort(least.min(1), kind="stable")])


def test_the_whole_swarm_flies_again_to_the_last_bit(swarms, fly):
    states, _ = swarms
    again = fly_again(fly, PARAMS, unpacked(packed(states), "file"))
    assert same_bits(states, flown_states(states, again)).all()
    np.testing.assert_array_equal(again.end, states.end)
    last = again.flown.trajectories.last.position
    np.testing.assert_array_equal(last, states.end[np.arange(KEPT), states.drone])


def test_a_drone_that_ends_elsewhere_is_noticed_though_another_one_was_kept(swarms, fly):
    states, _ = swarms
    end = states.end.copy()
    other = (states.drone[2] + 1) % DRONES
    end[2, other, 0] = np.nextafter(end[2, other, 0], np.inf)
    same = same_bits(replace(states, end=end), flown_states(states, fly_again(fly, PARAMS, states)))
    np.testing.assert_array_equal(same, np.arange(KEPT) != 2)


def test_all_drones_of_a_scene_are_flown_again(swarms, fly):
    states, _ = swarms
    for index, flown in scenes_again(fly, PARAMS, states):
        scene = whole_scene(states, index)
        np.testing.assert_array_equal(flown.trajectories.states.position[:, 0], scene.start)
        np.testing.assert_array_equal(flown.trajectories.last.position, states.end[index])


@pytest.mark.slow
def test_swarms_and_single_drones_are_stored_together_and_fly_again_to_the_same_bits(fly):
    states = unpacked(packed(evaluated(fly, MIXED)[0]), "file")
    assert set(states.drones) == {0, DRONES}
    assert (states.end[states.drones == 0, 1:] == 0.0).all()
    assert whole_scene(states, int(np.argmin(states.drones))).start.shape == (3,)
    assert same_bits(states, flown_states(states, fly_again(fly, PARAMS, states))).all()


def file_with(states, **changes):
    with np.load(io.BytesIO(packed(states))) as file:
        arrays = {name: file[name] for name in file.files} | changes
    buffer = io.BytesIO()
    np.savez(buffer, **{name: value for name, value in arrays.items() if value is not None})
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"drone": np.full(KEPT, DRONES)}, "holds drone = 3, expected 0 to 2"),
        ({"drones": np.full(KEPT, DRONES + 1)}, "holds drones = 4, expected 0 to 3"),
        ({"drones": None}, "lacks drones"),
        ({"batches": np.full(KEPT, 1)}, "holds rows = 1, expected 0 to 0"),
        ({"end": np.zeros((KEPT, 3))}, "drones = 3, expected 0 to 0"),
        ({"end": np.zeros((KEPT, 0, 3))}, "holds swarms of 0 drones, expected 1 to 4096"),
        (
            {"scenes.goal": np.zeros((KEPT, 3), np.float32)},
            r"holds scenes.goal of shape \(4, 3\), expected \(4, 3, 3\)",
        ),
        ({"format": np.int64(2)}, "is of format 2, but holds swarms"),
    ],
)
def test_a_file_of_swarms_that_was_altered_is_refused_in_one_line(swarms, changes, complaint):
    with pytest.raises(ConfigError, match=f"replay = worst.npz.*({complaint}).*name an evaluate run"):
        unpacked(file_with(swarms[0], **changes), "worst.npz")


def test_files_without_swarms_are_those_of_before(swarms):
    states, _ = swarms
    alone = replace(
        states, scenes=states.own_scenes(), end=states.end[:, 0], drones=np.zeros(KEPT, int), drone=np.zeros(KEPT, int)
    )
    with np.load(io.BytesIO(packed(alone))) as file:
        assert file["format"] == 2 and not {"drones", "drone"} & set(file.files)
    jax.tree.map(np.testing.assert_array_equal, vars(unpacked(packed(alone), "file")), vars(alone))
