import warnings

import numpy as np
import pytest

from drone_cbf.reporting.figures.barriers import calibration_figure
from drone_cbf.reporting.figures.curves import curves_together, smooth, training_curves
from drone_cbf.reporting.figures.matrices import success_matrix

from .test_flights import draw


def lines(axes, gid):
    return [line for line in axes.lines if line.get_gid() == gid]


def test_raw_values_are_drawn_as_recorded_and_smoothed_on_top():
    values = np.random.default_rng(0).normal(size=100)
    history = [{"step": 2 * k, "a": value} for k, value in enumerate(values)]
    axes = training_curves(history, {"g": ["a"]}).axes[0]
    raw, middle = lines(axes, "raw")[0], lines(axes, "smooth")[0]
    assert np.allclose(raw.get_ydata(), values) and np.allclose(raw.get_xdata(), 2 * np.arange(100))
    assert np.std(middle.get_ydata()) < 0.8 * np.std(values) and middle.get_alpha() is None and raw.get_alpha() < 0.5


def test_the_running_mean_is_the_mean_of_the_window():
    values = np.array([1.0, 2.0, 6.0, 3.0, 8.0])
    assert np.allclose(smooth(values, 3), [1.5, 3.0, 11 / 3, 17 / 3, 5.5])
    assert np.allclose(smooth(values, 1), values)


@pytest.mark.parametrize(("values", "scale"), [([1.0, 1e-3], "log"), ([1.0, 0.5], "linear"), ([1.0, 0.0], "linear")])
def test_only_positive_values_over_two_decades_get_a_logarithmic_axis(values, scale):
    history = [{"step": k, "a": value} for k, value in enumerate(values)]
    assert training_curves(history, {"g": ["a"]}).axes[0].get_yscale() == scale


def test_settings_are_steps_that_no_mean_smears_and_adaptive_ones_that_never_change_are_left_out():
    history = [{"step": k, "curriculum/blend": float(k >= 50), "adaptive/lr": 1.0} for k in range(100)]
    history[0] |= {"adaptive/penalty": 1.0, "other": 3.0}
    history[9] |= {"adaptive/penalty": 2.0}
    names = ["adaptive/lr", "curriculum/blend", "adaptive/penalty"]
    for axes, gid in (
        (training_curves(history, {"g": names}).axes[0], "smooth"),
        (curves_together({"a": [history]}, names).axes[0], "run"),
    ):
        blend = lines(axes, gid)[0]
        assert blend.get_drawstyle() == "steps-post" and set(blend.get_ydata()) == {0.0, 1.0}
    legend = training_curves(history, {"g": names}).axes[0].get_legend().get_texts()
    assert [text.get_text() for text in legend] == ["blend", "penalty"]


def test_zeros_beside_values_of_many_sizes_get_an_axis_that_shows_both():
    history = [{"step": 0, "a": 10.0, "b": 1e-3}, {"step": 1, "a": 1.0, "b": 0.0}]
    axes = training_curves(history, {"g": ["a", "b"]}).axes[0]
    assert axes.get_yscale() == "symlog" and axes.get_ylim()[0] == 0.0
    draw(axes.figure)


def test_a_metric_of_some_records_keeps_their_steps_and_bad_values_are_counted():
    history = [{"step": 0, "a": 1.0}, {"step": 1, "b": 5.0}, {"step": 2, "a": np.nan}, {"step": 3, "a": 2.0}]
    figure = training_curves(history, {"one": ["a"], "two": ["absent"]})
    assert lines(figure.axes[0], "raw")[0].get_xdata().tolist() == [0.0, 3.0]
    assert figure.axes[0].get_legend().get_texts()[0].get_text() == "a (1 not finite)"
    assert figure.axes[1].texts[0].get_text() == "not recorded"


def test_no_history_is_a_clear_error():
    with pytest.raises(ValueError, match="at least one record"):
        training_curves([], {"g": ["a"]})
    with pytest.raises(ValueError, match="no record holds 'step'"):
        training_curves([{"epoch": 1, "a": 2.0}], {"g": ["a"]})


def test_a_single_constant_record_draws_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = training_curves([{"step": 0, "a": 1.0}], {"g": ["a"]})
        draw(figure)
    low, high = figure.axes[0].get_ylim()
    assert low < 1.0 < high and any(1.0 in line.get_ydata() for line in figure.axes[0].lines)


KEYS = ("scene", "goals", "noise", "success_rate", "collision_rate", "rollouts")
CELLS = [
    ("fixed_ring", "trained", 0.0, 1.0, 0.0, 100),
    ("fixed_ring", "trained", 0.02, 0.99, 0.0, 100),
    ("random_cloud", "random", 0.0, 0.995, 0.01, 100),
]
ROWS = [dict(zip(KEYS, cell, strict=True)) for cell in CELLS]


def table(axes):
    return {(round(text.get_position()[1]), round(text.get_position()[0])): text.get_text() for text in axes.texts}


def test_every_cell_of_the_matrix_shows_its_rate_and_gaps_stay_blank():
    left, right = success_matrix(ROWS).axes
    assert table(left) == {(0, 0): "100 %", (0, 1): "99.00 %", (1, 0): "99.50 %", (1, 1): "–"}
    assert table(right) == {(0, 0): "0 %", (0, 1): "0 %", (1, 0): "1.00 %", (1, 1): "–"}
    names = [label.get_text() for label in left.get_yticklabels()]
    assert names == ["fixed ring, trained goals", "random cloud, random goals"]


def test_exactly_the_failed_cells_are_framed():
    left, right = success_matrix(ROWS).axes
    corners = [[(round(p.get_x() + 0.46), round(p.get_y() + 0.44)) for p in axes.patches] for axes in (left, right)]
    assert corners == [[(1, 0)], [(0, 1)]]


def test_the_matrix_counts_collisions_in_its_title():
    assert "collisions in 1 of 300 rollouts" in success_matrix(ROWS).get_suptitle()


def test_a_matrix_refuses_duplicates_missing_keys_and_percentages():
    with pytest.raises(ValueError, match="occurs twice"):
        success_matrix([ROWS[0], ROWS[0]])
    with pytest.raises(ValueError, match="lacks noise"):
        success_matrix([{key: value for key, value in ROWS[0].items() if key != "noise"}])
    with pytest.raises(ValueError, match="fraction"):
        success_matrix([ROWS[0] | {"success_rate": 99.0}])
    with pytest.raises(ValueError, match="no rows"):
        success_matrix([])


def test_the_calibration_counts_the_states_that_the_margin_covers():
    true = np.linspace(-0.2, 0.2, 1000)
    predicted = true + np.where(np.arange(1000) < 20, 0.05, 0.01)
    figure = calibration_figure(np.append(true, 9.0), np.append(predicted, 0.0), margin=0.02)
    assert "98.00 % of 1,000 states" in figure.get_suptitle()
    counts = np.array([bar.get_height() for bar in figure.axes[1].containers[0]])
    assert counts.sum() == 1000 and sorted(counts[counts > 0]) == [20, 980]
    drawn = next(child for child in figure.axes[0].collections if child.get_gid() == "states").get_offsets()
    assert np.allclose(np.asarray(drawn), np.column_stack([true, predicted]))


def test_a_perfect_prediction_draws_without_a_warning():
    true = np.linspace(-0.2, 0.2, 5000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = calibration_figure(true, true, 0.0)
        draw(figure)
    assert "covers 100 % of 5,000 states" in figure.get_suptitle()


def test_calibration_without_states_near_the_boundary_is_a_clear_error():
    with pytest.raises(ValueError, match="raise `near`"):
        calibration_figure(np.ones(5), np.ones(5), 0.1)
    with pytest.raises(ValueError, match="alike"):
        calibration_figure(np.ones(5), np.ones(4), 0.1)
