"""Labels of a hand-made flight, against what the geometry says."""

import jax
import numpy as np
import pytest

from drone_cbf.config import PhysicsConfig
from drone_cbf.errors import ConfigError
from drone_cbf.training.curriculum.mechanisms import Learning, LossWeights
from drone_cbf.training.curriculum.schema import Curriculum, Stage
from drone_cbf.training.data.flown_states import acting_steps, check_look_ahead, make_labels, steps_ahead
from drone_cbf.training.settings import SafetySettings
from tests.objectives.flights import flight
from tests.perception.worlds import PLAIN, capsules, scene_of, small_system

SYSTEM = small_system(physics=PLAIN)
RADIUS = SYSTEM.physics.drone_radius
MARGIN = SYSTEM.barrier.safety_margin
WALL = scene_of(capsules([[0.0, 0.0, 0.0]], 1.0))
STEPS, AHEAD = 20, 4


def labels_of(clearances, system=SYSTEM, look_ahead=AHEAD * SYSTEM.physics.time_step):
    """Of a drone whose hull is so far from a ball [m] at each sample, moving straight between them."""
    points = [[1.0 + RADIUS + clearance, 0.0, 0.0] for clearance in clearances]
    return jax.tree.map(np.asarray, make_labels(system, look_ahead)(flight(system, points), WALL))


def test_only_the_touch_is_unsafe_only_what_keeps_clear_is_safe_and_the_rest_has_no_label():
    clearances = np.ones(STEPS + 1)
    clearances[9:11] = -0.05  # touched during steps 8 (arriving), 9 and 10 (leaving)
    labels = labels_of(clearances)
    assert np.flatnonzero(labels.unsafe).tolist() == [8, 9, 10]
    # Steps t to t + 3 must be free: 0 to 4 before the touch; 11 to 16 after it; nothing is known beyond step 19.
    assert np.flatnonzero(labels.safe).tolist() == [0, 1, 2, 3, 4, *range(11, STEPS - AHEAD + 1)]


def test_a_ball_passed_through_between_two_samples_is_unsafe():
    points = [[-3.0, 0.0, 0.0], [3.0, 0.0, 0.0], [3.0, 0.0, 0.0]]
    labels = make_labels(SYSTEM, 0.0)(flight(SYSTEM, points), WALL)
    assert labels.unsafe.tolist() == [True, False] and labels.safe.tolist() == [False, True]


def test_a_state_within_the_safety_margin_is_called_neither():
    labels = labels_of(np.full(STEPS + 1, 0.9 * MARGIN))
    assert not labels.safe.any() and not labels.unsafe.any()
    assert labels_of(np.full(STEPS + 1, 1.1 * MARGIN)).safe.sum() == STEPS - AHEAD + 1


def test_a_graph_of_where_a_command_will_act_is_labelled_by_the_state_there():
    late = small_system(physics=PhysicsConfig(delay=0.05, lag_time=0.08))
    assert acting_steps(late) == 3  # 0.13 s in steps of 0.05 s
    clearances = np.ones(STEPS + 1)
    clearances[9:11] = -0.05
    labels = labels_of(clearances, late)
    assert np.flatnonzero(labels.unsafe).tolist() == [5, 6, 7]
    assert np.flatnonzero(labels.safe).tolist() == [0, 1, *range(8, STEPS - AHEAD - 3 + 1)]


@pytest.mark.parametrize("look_ahead", [0.0, 0.05, 0.12, 30.0])
def test_labels_are_what_a_loop_over_the_steps_finds(look_ahead):
    rng = np.random.default_rng(0)
    clearances = rng.uniform(-0.1, 1.0, STEPS + 1)
    labels = labels_of(clearances, look_ahead=look_ahead)
    swept = np.minimum(clearances[:-1], clearances[1:])
    ahead = steps_ahead(SYSTEM, look_ahead)
    for step in range(STEPS):
        window = swept[step : step + ahead]
        assert labels.unsafe[step] == (swept[step] < 0.0)
        assert labels.safe[step] == (len(window) == ahead and window.min() >= MARGIN)


def settings(horizon, **weights):
    stage = Stage(name="short", steps=1, horizon=horizon, weights=weights)
    learning = Learning(look_ahead=0.5, weights=LossWeights())
    return SafetySettings(curriculum=Curriculum(name="tiny", learning=learning, stages=(stage,)))


def test_flights_too_short_for_any_safe_label_are_refused_where_the_label_is_wanted():
    check_look_ahead(SYSTEM, settings(9))
    check_look_ahead(SYSTEM, settings(10, cbf_safe=1.0))
    with pytest.raises(ConfigError, match=r"stage short: horizon = 9 .*look_ahead = 0.5 .*: at least 10 steps"):
        check_look_ahead(SYSTEM, settings(9, cbf_safe=1.0))
