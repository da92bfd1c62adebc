import math

import numpy as np
import pandas as pd
import pytest

from drone_cbf.reporting.figures.curves import curves_together
from drone_cbf.reporting.figures.trial_figures import comparison_figure, loss_over_blend
from drone_cbf.reporting.trials import headline_rows, interval, loss_by_blend, summary_numbers, summary_rows

FIGURES = {"success_rate": 0.99, "relax_rate": 0.0, "max_violation": 1.5, "extra": 3.0}


def trials(*rows):
    return pd.DataFrame([{"group": "default", "seed": 0} | FIGURES | row for row in rows])


def losses(values=(4.0, 2.0, 3.0, 1.0), blend=(0.0, 0.0, 1.0, 1.0), **run):
    run = {"group": "default", "seed": 0, "run_id": "a"} | run
    steps = np.arange(len(values))
    return pd.DataFrame({"step": steps, "blend": blend, "name": "loss/cbf_hdot", "value": values}).assign(**run)


def test_the_interval_covers_the_true_mean_of_normal_seeds_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(3.0, 2.0, (4000, 3))
    found = [interval(row) for row in draws]
    covered = np.mean([abs(one.mean - 3.0) <= one.half_width for one in found])
    assert covered == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 4000)), "within four standard errors"


def test_equal_values_have_no_spread_whatever_their_mean_is_rounded_to():
    values = [0.999023] * 3
    assert np.std(values, ddof=1) > 0.0, "or there is nothing to test"
    assert interval(values).half_width == 0.0


def test_one_value_has_no_interval_and_none_no_mean():
    one, none = interval([2.0]), interval([])
    assert (one.mean, one.count) == (2.0, 1) and math.isnan(one.half_width) and one.text() == "2"
    assert math.isnan(none.mean) and none.text() == "–"
    assert math.isnan(interval([1.0, math.nan]).mean), "a seed that has no figure is not passed over"


def test_a_group_is_summed_up_with_its_seeds_and_a_seed_without_a_figure_is_not_passed_over():
    some = trials({"seed": 1, "success_rate": 0.9}, {"success_rate": 1.0}, {"group": "other", "max_violation": None})
    rows = summary_rows(some)
    assert [(row["trained as"], row["n"], row["seeds"]) for row in rows] == [("default", 2, "0, 1"), ("other", 1, "0")]
    assert rows[0]["success rate"] == "0.95 ± 0.64" and "collision rate" not in rows[0], "no trial has it"
    assert [row["largest violation [m/s]"] for row in rows] == ["1.5 ± 0", "–"]
    numbers = summary_numbers(some)
    assert numbers["max_violation_mean"].isna().tolist() == [False, True]
    assert numbers["success_rate_half_width"][0] == interval([0.9, 1.0]).half_width and numbers["n"].tolist() == [2, 1]


def test_the_headline_counts_collisions_over_the_seeds_and_knows_where_they_were_not_counted():
    counted = {"collisions": 2.0, "rollouts": 4608.0}
    default, other = headline_rows(trials(counted, {"seed": 1} | counted, {"group": "other"}))
    assert (default["collisions"], other["collisions"]) == ("4 in 9,216", None)
    assert (default["success, worst cell"], default["seeds"]) == ("0.99 ± 0", "0, 1")


def test_the_loss_is_averaged_at_each_blend_of_each_run_without_what_is_not_finite():
    assert loss_by_blend(losses())["mean"].tolist() == [3.0, 2.0]
    other = losses((np.nan, 2.0, np.inf, 2.0), blend=(0.0, 0.04, 1.0, 1.0), run_id="b", seed=1)
    found = loss_by_blend(pd.concat([losses(), other]))
    assert found["blend"].tolist() == [0.0, 1.0] and found["n"].tolist() == [2, 2]
    assert found["mean"].tolist() == [2.5, 2.0] and found["half_width"][0] == interval([3.0, 2.0]).half_width


def test_the_comparison_shows_every_seed_at_its_value_and_the_mean_with_its_interval():
    figure = comparison_figure(trials({"success_rate": 0.9}, {"seed": 1, "success_rate": 1.0}, {"group": "other"}))
    axes = figure.axes[0]
    seeds = [dots.get_offsets()[:, 0].tolist() for dots in axes.collections if dots.get_gid() == "seeds"]
    assert seeds == [[0.9, 1.0], [0.99]]
    mean, _, (bar,) = axes.containers[0]
    assert mean.get_xdata().tolist() == [0.95]
    (low, _), (high, _) = bar.get_segments()[0]
    assert (high - low) / 2 == pytest.approx(interval([0.9, 1.0]).half_width)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["default", "other"]


def test_the_loss_over_the_blend_is_drawn_at_the_blends_that_were_visited():
    figure = loss_over_blend(losses())
    line = figure.axes[1].containers[0][0]
    assert np.allclose(line.get_xdata(), [0.0, 1.0]) and line.get_ydata().tolist() == [3.0, 2.0]
    with pytest.raises(ValueError, match="no trial recorded the loss"):
        loss_over_blend(losses()[:0])
    with pytest.raises(ValueError, match="at least one trial"):
        comparison_figure(trials()[:0])


def test_curves_of_several_runs_share_a_panel_and_a_metric_that_nobody_has_is_left_out():
    history = [{"step": float(k), "loss/total": 1.0 / (k + 1)} for k in range(5)]
    figure = curves_together({"a": [history, history], "b": [history]}, ["loss/total", "absent"])
    assert len(figure.axes) == 1 and len([line for line in figure.axes[0].lines if line.get_gid() == "run"]) == 3
    with pytest.raises(ValueError, match="no run recorded any of absent"):
        curves_together({"a": [history]}, ["absent"])
