"""Figures of a search: every trial is where its values put it."""

from __future__ import annotations

import numpy as np
import pytest

from drone_cbf.reporting.figures.sweep_figures import (
    SearchedSetting,
    Tried,
    course_figure,
    importance_figure,
    parallel_figure,
    slices_figure,
)

SETTINGS = [
    SearchedSetting("safety.learning_rate", 1e-4, 1e-2, log=True),
    SearchedSetting("filter.gradient", 0.0, 1.0, choices=("full", "identity")),
    SearchedSetting("safety.batch", 10.0, 30.0),
]


def tried(number: int, rate: float, choice: float, batch: float, outcome: float | None, pruned: bool = False) -> Tried:
    values = {"safety.learning_rate": rate, "filter.gradient": choice, "safety.batch": batch}
    return Tried(number, values, outcome, pruned)


TRIALS = [
    tried(0, 1e-3, 0.0, 20.0, 0.5),
    tried(1, 1e-4, 1.0, 30.0, 0.8),
    tried(2, 1e-2, 1.0, 10.0, 0.6),
    tried(3, 1e-2, 0.0, 10.0, None, pruned=True),
    tried(4, 1e-2, 0.0, 10.0, None),
]


def drawn(figure: object, gid: str) -> list[np.ndarray]:
    axes = figure.axes[0]  # type: ignore[attr-defined]
    return [np.asarray(line.get_xydata()) for line in axes.lines if line.get_gid() == gid]


def test_a_line_of_parallel_coordinates_passes_every_axis_at_its_value() -> None:
    figure = parallel_figure(TRIALS, SETTINGS, "success", maximise=True)
    (best,) = drawn(figure, "best")
    assert np.allclose(best, [[0, 0.0], [1, 1.0], [2, 1.0]]), "1e-4, identity, 30"
    first = next(line for line in drawn(figure, "done") if line[0, 1] == pytest.approx(0.5))
    assert np.allclose(first, [[0, 0.5], [1, 0.0], [2, 0.5]]), "1e-3 is the middle of the decades, 20 of 10 to 30"
    assert len(drawn(figure, "pruned")) == 1 and len(drawn(figure, "done")) == 2, "a failed trial has no line"


@pytest.mark.parametrize(("maximise", "best"), [(True, [0.5, 0.8, 0.8]), (False, [0.5, 0.5, 0.5])])
def test_the_course_shows_the_best_so_far_in_the_direction_of_the_search(maximise: bool, best: list[float]) -> None:
    figure = course_figure(TRIALS, "success", maximise)
    ((*points, last),) = drawn(figure, "best")
    assert [height for _, height in points] == best and last[0] == 5, "up to the last trial, also if that failed"
    assert [len(drawn(figure, label)[0]) for label in ("done", "stopped early", "failed")] == [3, 1, 1]


def test_importances_are_bars_in_order_with_their_share() -> None:
    axes = importance_figure({"a": 0.2, "b": 0.7, "c": 0.1}).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [0.1, 0.2, 0.7]
    assert [text.get_text() for text in axes.texts] == ["10 %", "20 %", "70 %"]


def test_slices_show_what_is_done_over_every_setting() -> None:
    figure = slices_figure(TRIALS, SETTINGS, "success")
    rate = figure.axes[0].collections[0].get_offsets()
    assert np.allclose(rate, [[1e-3, 0.5], [1e-4, 0.8], [1e-2, 0.6]]) and figure.axes[0].get_xscale() == "log"
    assert [tick.get_text() for tick in figure.axes[1].get_xticklabels()] == ["full", "identity"]


def test_without_a_trial_that_is_done_there_is_nothing_to_draw() -> None:
    with pytest.raises(ValueError, match="no trial is done"):
        parallel_figure(TRIALS[3:], SETTINGS, "success", maximise=True)
    with pytest.raises(ValueError, match="no setting has a known share"):
        importance_figure({})
