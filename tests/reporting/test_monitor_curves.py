import warnings
from typing import NamedTuple

import numpy as np
import pytest

from drone_cbf.reporting.figures.curves import monitor_curves, stage_spans

from .test_flights import draw


class WatchedStage(NamedTuple):
    name: str
    success_threshold: float
    violation_threshold: float


STAGES = [WatchedStage("quiet", 0.9, 2.0), WatchedStage("free", 0.0, 1e6)]
UPDATES = [{"step": step, "curriculum/stage": float(step >= 4), "loss/total": 1.0} for step in range(8)]
MEASUREMENTS = [
    {"step": 1, "eval/success_rate": 0.5, "eval/violation_p999": 3.0, "robust/success_rate": 0.25},
    {"step": 3, "eval/success_rate": 1.0, "eval/violation_p999": float("nan"), "robust/success_rate": 0.75},
    {"step": 7, "eval/success_rate": 0.75, "eval/violation_p999": 0.5},
]
HISTORY = [*UPDATES, *MEASUREMENTS, {"step": 5, "monitor/rollbacks": 1.0}, {"step": 6, "monitor/rollbacks": 2.0}]


def drawn(axes, gid):
    return [artist for artist in (*axes.lines, *axes.collections) if artist.get_gid() == gid]


def test_stages_are_read_from_the_history():
    assert stage_spans(HISTORY) == [(0.0, 3.0, 0), (4.0, 7.0, 1)]


def test_measurements_are_drawn_where_they_were_taken_with_stages_thresholds_and_rollbacks():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = monitor_curves(HISTORY, STAGES)
        draw(figure)
    success, violation = figure.axes
    (line,) = drawn(success, "eval")
    assert line.get_xdata().tolist() == [1.0, 3.0, 7.0] and line.get_ydata().tolist() == [0.5, 1.0, 0.75]
    assert drawn(success, "robust")[0].get_ydata().tolist() == [0.25, 0.75] and not drawn(violation, "robust")
    assert drawn(violation, "eval")[0].get_xdata().tolist() == [1.0, 7.0], "no line through what is no number"
    for axes in figure.axes:
        assert [line.get_xdata()[0] for line in drawn(axes, "rollback")] == [5.0, 6.0]
        assert [line.get_xdata()[0] for line in drawn(axes, "stage")] == [3.5]
    assert [text.get_text() for text in success.texts] == ["quiet", "free"]
    steps, levels = drawn(violation, "threshold")[0].get_data()
    assert drawn(violation, "threshold")[0].get_drawstyle() == "steps-post" and steps.tolist() == [0.0, 3.5, 7.0]
    assert levels[0] == 2.0 and np.isnan(levels[1:]).all(), "a threshold that asks for nothing would squash the panel"
    assert drawn(success, "threshold")[0].get_ydata().tolist() == [0.9, 0.0, 0.0]


def test_a_history_without_measurements_is_a_clear_error():
    with pytest.raises(ValueError, match="no record holds eval/success_rate"):
        monitor_curves(UPDATES, STAGES)
