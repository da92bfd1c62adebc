"""Evaluations over the number of drones: every number is a cell of its own, in a world of the same density."""

import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import ValidationError

from drone_cbf.config import SceneConfig
from drone_cbf.controller import ControllerParams
from drone_cbf.evaluation.matrix import cell_count, cell_name, evaluate_matrix, sample_scenes, worst_cell
from drone_cbf.evaluation.settings import EvaluationSettings
from drone_cbf.evaluation.showcase import record_flights
from drone_cbf.evaluation.worst import WorstFlights
from drone_cbf.flights import make_flyer
from drone_cbf.scenes.growth import grown
from tests.evaluation.test_replay import make_careless_pilot
from tests.perception.worlds import random_barrier, random_policy
from tests.swarms import swarm_system

SYSTEM = swarm_system(2)
SETTINGS = EvaluationSettings(
    scenarios=("gcbf_linear", "random_cloud"), noise=(0.0,), goals=("random",), rollouts=8, horizon=6, drones=(2, 4)
)
PARAMS = ControllerParams(
    policy=random_policy(SYSTEM), barrier=random_barrier(SYSTEM), margin=jnp.float32(0.0), blend=jnp.float32(1.0)
)


@pytest.mark.parametrize(("drones", "side"), [(8, 2.0), (32, 3.175), (128, 5.04), (512, 8.0)])
def test_worlds_grow_as_gcbf_evaluates_them(drones, side):
    config = grown(SceneConfig(drones=8), drones)
    assert config.drones == drones and config.gcbf_obstacles == 8
    assert config.gcbf_side == config.gcbf_crazyflie_side == pytest.approx(side, rel=1e-3)
    assert config.gcbf_double_integrator_side**2 / drones == pytest.approx(4.0**2 / 8)


@pytest.mark.slow
def test_every_number_is_a_cell_of_swarms_and_single_drones_have_one():
    fly, kept, watched = make_flyer(SYSTEM, make_careless_pilot(SYSTEM), SETTINGS.horizon), WorstFlights(1.0), []

    def watch(cell, flights):
        watched.append((cell, flights))
        kept.watch(cell, flights)

    cells = evaluate_matrix(SYSTEM, SETTINGS, PARAMS, {True: fly}, lambda index, cell: None, watch)
    expected = [
        "gcbf_linear/noise_0/random/drones_2",
        "gcbf_linear/noise_0/random/drones_4",
        "random_cloud/noise_0/random",
    ]
    assert [cell.name for cell in cells] == expected and cell_count(SETTINGS, 1) == 3
    assert [cell.row.get("drones") for cell in cells] == [2, 4, None]
    assert [flights.scenes.start.shape for _, flights in watched] == [(4, 2, 3), (2, 4, 3), (8, 3)]
    assert [cell.figures["rollouts"] for cell in cells] == [8.0] * 3
    assert set(kept.states().drones) == {0, 2, 4} and kept.states().widest == 4
    assert "blocked_rate" in worst_cell(cells)
    scenes, flown, keys = record_flights(SYSTEM, SETTINGS, PARAMS, fly, "gcbf_linear", flights=8, batch=8)
    assert scenes.start.shape == (2, 4, 3) and flown.clearance.shape == (8, 6) and keys.shape == (8,)


def test_a_number_alone_is_the_configured_scene_but_for_its_draws():
    scenes = sample_scenes(SYSTEM, "gcbf_linear", 0.0, "random", SETTINGS, None, 2)
    assert scenes.start.shape[1:] == (2, 3) and float(np.max(scenes.start)) <= SYSTEM.scene.gcbf_side
    assert cell_name("gcbf_linear", 0.0, "random", 3.0, 8) == "gcbf_linear/noise_0/random/speed_3/drones_8"


def test_numbers_given_twice_and_swarms_of_one_are_refused():
    for drones, complaint in (((8, 8), "holds 8 twice"), ((1, 8), "greater than or equal to 2")):
        with pytest.raises(ValidationError, match=complaint):
            EvaluationSettings(drones=drones)
