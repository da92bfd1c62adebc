"""The scenario matrix on a tiny system: same scenes with and without filter, chunks, and the worst cell."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf import flights
from drone_cbf.controller import ControllerParams, make_unfiltered_pilot
from drone_cbf.evaluation import matrix
from drone_cbf.evaluation.matrix import (
    SMALLER_IS_WORSE,
    Cell,
    cell_count,
    cell_figures,
    evaluate_matrix,
    make_flyers,
    worst_cell,
)
from drone_cbf.evaluation.settings import EvaluationSettings
from drone_cbf.evaluation.statistics import rate_upper_bound
from drone_cbf.objectives.metrics import make_flight_metrics
from drone_cbf.objectives.swarm_metrics import SMALLER_IS_WORSE as SWARM_SMALLER_IS_WORSE
from drone_cbf.rollout import make_rollout
from tests.perception.worlds import few_obstacles, random_barrier, random_policy, small_system

SYSTEM = small_system(scene=few_obstacles(4))
SETTINGS = EvaluationSettings(
    scenarios=("random_cloud",), noise=(0.0, 0.05), goals=("random", "shifted"), rollouts=5, horizon=6
)
PARAMS = ControllerParams(
    policy=random_policy(SYSTEM), barrier=random_barrier(SYSTEM), margin=jnp.float32(0.0), blend=jnp.float32(1.0)
)
ROUNDING = 1e-4
"""Relative: batches of different size are fused differently."""


@pytest.fixture(scope="module")
def flyers():
    return make_flyers(SYSTEM, SETTINGS, filtered=True)


@pytest.fixture(scope="module")
def twice_unfiltered(flyers):
    """The matrix with the unfiltered flyer in both places: both halves must then agree."""
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flights, "CHUNK", 2)  # five flights: two full chunks and a half
        twice = {True: flyers[False], False: flyers[False]}
        cells = evaluate_matrix(SYSTEM, SETTINGS, PARAMS, twice, lambda index, cell: seen.append((index, cell)))
    return cells, seen


def test_every_cell_is_flown_with_and_without_filter(twice_unfiltered):
    cells, seen = twice_unfiltered
    assert len(cells) == cell_count(SETTINGS, flyers=2) == 8
    assert seen == list(enumerate(cells))
    assert {(c.name, c.filtered) for c in cells} == {
        (f"random_cloud/noise_{noise}/{goals}", filtered)
        for noise in ("0", "0.05") for goals in SETTINGS.goals for filtered in (True, False)
    }  # fmt: skip


def test_filter_on_and_off_fly_the_same_scenes_with_the_same_noise(twice_unfiltered):
    cells = {(c.name, c.filtered): c.figures for c in twice_unfiltered[0]}
    for (name, filtered), figures in cells.items():
        if filtered:
            np.testing.assert_equal(figures, cells[name, False])
    distances = {figures["final_distance_mean"] for figures in cells.values()}
    assert len(distances) == 4, "noise and goals must make a difference"


def test_every_cell_has_scenes_and_noise_of_its_own():
    """Else all cells' flights together were not as many independent trials, as the bound over them assumes."""
    places = [("random_cloud", 0.0, "random"), ("random_cloud", 0.05, "random"), ("random_cloud", 0.0, "shifted")]
    starts = [np.asarray(matrix.sample_scenes(SYSTEM, *place, SETTINGS).start) for place in places]
    keys = [jax.random.key_data(matrix.flight_keys(SYSTEM, *place, SETTINGS)) for place in places]
    for drawn in (starts, keys):
        assert not any(
            np.any(np.all(one[:, None] == other[None], -1)) for one, other in itertools.combinations(drawn, 2)
        )


def test_a_displaced_matrix_flies_the_same_scenes_with_obstacles_displaced_and_starts_that_move():
    displaced = SETTINGS.model_copy(update={"augment": 0.4})
    places = [("random_cloud", 0.0, "random"), ("random_cloud", 0.05, "random")]
    before, after = (
        [matrix.sample_scenes(SYSTEM, *place, given) for place in places] for given in (SETTINGS, displaced)
    )
    shifts = []
    for plain, moved in zip(before, after, strict=True):
        np.testing.assert_array_equal([moved.start, moved.goal], [plain.start, plain.goal])
        shifts.append(np.asarray(moved.obstacles.capsules.centre - plain.obstacles.capsules.centre))
        assert 0.1 < np.abs(shifts[-1]).max() <= 0.5 * 0.4 + 1e-6
        assert not plain.start_velocity.any() and np.all(np.linalg.norm(moved.start_velocity, axis=-1) > 0.01)
    drawn = np.concatenate(shifts)
    assert len(np.unique(drawn[..., 0])) == drawn[..., 0].size, "each flight of each cell is displaced on its own"


def test_at_each_speed_a_cell_has_a_name_scenes_and_a_told_cruise_of_its_own(flyers):
    settings = SETTINGS.model_copy(update={"speeds": (2.0, 4.5), "noise": (0.0,), "goals": ("random",)})
    assert cell_count(settings, flyers=1) == 2
    told = [matrix.sample_scenes(SYSTEM, "random_cloud", 0.0, "random", settings, speed) for speed in settings.speeds]
    for scenes, speed in zip(told, settings.speeds, strict=True):
        np.testing.assert_array_equal(scenes.cruise, np.full(settings.rollouts, speed, np.float32))
    assert not np.array_equal(told[0].start, told[1].start)
    slow, fast = evaluate_matrix(SYSTEM, settings, PARAMS, {False: flyers[False]}, lambda index, cell: None)
    assert (slow.name, fast.name) == ("random_cloud/noise_0/random/speed_2", "random_cloud/noise_0/random/speed_4.5")
    assert slow.row["speed"] == 2.0 and slow.figures["mean_speed"] < fast.figures["mean_speed"]


def test_without_speeds_a_cell_is_what_it_was():
    cell = Cell("forest", 0.02, "random", True, {"success_rate": 1.0})
    assert cell.name == "forest/noise_0.02/random" and "speed" not in cell.row
    assert "speeds" not in EvaluationSettings().comparable()
    assert matrix.sample_scenes(SYSTEM, "random_cloud", 0.0, "random", SETTINGS).cruise is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"speeds": (3.0, 3.0)}, "speeds = 3,3 holds 3 twice"),
        ({"scenarios": ("forest", "forest")}, "scenarios = forest,forest holds forest twice"),
        ({"noise": (0.02, 0.02000001)}, "holds 0.02 twice"),
        ({"goals": ("random", "random")}, "holds random twice"),
    ],
)
def test_no_cell_is_counted_twice(given, message):
    with pytest.raises(ValueError, match=message):
        EvaluationSettings(**given)


@pytest.mark.slow
def test_chunks_change_nothing(twice_unfiltered):
    """Against all flights of a cell in one batch, drawn and flown here."""
    cell = next(c for c in twice_unfiltered[0] if c.noise == 0.05 and c.goals == "random")
    scenes = matrix.sample_scenes(SYSTEM, "random_cloud", 0.05, "random", SETTINGS)
    keys = matrix.flight_keys(SYSTEM, "random_cloud", 0.05, "random", SETTINGS)
    rollout = make_rollout(SYSTEM, make_unfiltered_pilot(SYSTEM), SETTINGS.horizon)
    metrics = make_flight_metrics(SYSTEM)

    def fly(scene, key):
        return metrics(rollout(PARAMS, scene, jnp.float32(0.05), key), scene)

    direct = cell_figures(jax.tree.map(np.asarray, jax.jit(jax.vmap(fly))(scenes, keys)))
    assert direct["rollouts"] == cell.figures["rollouts"] == SETTINGS.rollouts
    for name, value in direct.items():
        np.testing.assert_allclose(cell.figures[name], value, rtol=ROUNDING, atol=ROUNDING, err_msg=name)


def test_without_a_barrier_only_the_policy_is_flown():
    assert set(make_flyers(SYSTEM, SETTINGS, filtered=False)) == {False}
    assert cell_count(SETTINGS, flyers=1) == 4


@pytest.mark.slow
def test_the_real_filter_changes_what_is_flown_and_says_so(flyers):
    settings = SETTINGS.model_copy(update={"noise": (0.0,), "goals": ("random",)})
    # A margin of metres makes the barrier negative everywhere: the filter must act at once.
    params = PARAMS.replace(margin=jnp.float32(12.0))
    on, off = evaluate_matrix(SYSTEM, settings, params, flyers, lambda index, cell: None)
    assert on.filtered and not off.filtered
    assert off.figures["intervention_rate"] == 0.0 == off.figures["relax_rate"]
    assert on.figures["intervention_rate"] + on.figures["no_authority_rate"] > 0.5
    assert on.figures["effort"] != off.figures["effort"]


def cells(**columns):
    count = len(next(iter(columns.values())))
    base = {
        "success_rate": 1.0,
        "solver_failures": 0.0,
        "collisions": 0.0,
        "rollouts": 100.0,
        "collision_rate_ub99": 0.1,
    }
    return [
        Cell("forest", 0.0, "random", True, base | {name: values[i] for name, values in columns.items()})
        for i in range(count)
    ]


def test_the_worst_cell_is_the_least_success_and_the_greatest_error():
    worst = worst_cell(
        cells(success_rate=[0.9, 0.4, 1.0], smallest_clearance=[0.3, 0.5, -0.1], final_distance_max=[0.1, 3.0, 0.2])
    )
    assert (worst["success_rate"], worst["smallest_clearance"], worst["final_distance_max"]) == (0.4, -0.1, 3.0)


@pytest.mark.parametrize("name", ["success_rate", "max_violation"])
def test_a_figure_that_is_not_a_number_is_the_worst_of_all(name):
    assert np.isnan(worst_cell(cells(**{name: [0.5, np.nan, 0.7]}))[name])


def test_collisions_are_counted_over_all_cells_and_bounded_together():
    worst = worst_cell(cells(collisions=[0.0, 2.0, 1.0], rollouts=[100.0, 200.0, 300.0]))
    assert (worst["collisions"], worst["rollouts"]) == (3.0, 600.0)
    assert worst["collision_rate_total_ub99"] == pytest.approx(rate_upper_bound(3, 600))


def test_solver_failures_are_counted_over_all_cells():
    assert worst_cell(cells(solver_failures=[0.0, 2.0, 5.0]))["solver_failures"] == 7.0


def test_figures_of_which_less_is_worse_exist(twice_unfiltered):
    assert set(twice_unfiltered[0][0].figures) >= SMALLER_IS_WORSE - SWARM_SMALLER_IS_WORSE


def test_figures_of_swarms_are_summed_up_over_the_cells_that_have_them():
    some = cells(success_rate=[0.5, 0.7])
    swarm = dataclasses.replace(some[1], figures=some[1].figures | {"smallest_separation": 0.1})
    worst = worst_cell(
        [some[0], swarm, dataclasses.replace(swarm, figures=swarm.figures | {"smallest_separation": 0.3})]
    )
    assert worst["smallest_separation"] == 0.1 and worst["success_rate"] == 0.5
