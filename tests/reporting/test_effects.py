"""The figure of single changes, read back from what was drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from drone_cbf.reporting.figures.trial_figures import BETTER, NEITHER, WORSE, effects_figure
from drone_cbf.reporting.trials import Interval

LARGER_IS_BETTER = {"success": True, "violation": False}


def drawn(axes: Axes) -> dict[int, tuple[float, str]]:
    """Row -> place and colour of its mean."""
    dots = [container.lines[0] for container in axes.containers]
    return {int(dot.get_ydata()[0]): (float(dot.get_xdata()[0]), to_hex(dot.get_color()).upper()) for dot in dots}


def test_a_change_is_coloured_by_whether_it_makes_the_figure_better_and_stays_grey_where_zero_is_within() -> None:
    effects = {
        "up": {"success": Interval(0.1, 0.05, 3), "violation": Interval(2.0, 0.5, 3)},
        "down": {"success": Interval(-0.1, 0.05, 3), "violation": Interval(-2.0, 0.5, 3)},
        "unclear": {"success": Interval(0.1, 0.2, 3), "violation": Interval(1.0, 40.0, 3)},
    }
    success, violation = effects_figure(effects, LARGER_IS_BETTER, "default").axes
    assert drawn(success) == {0: (0.1, BETTER), 1: (-0.1, WORSE), 2: (0.1, NEITHER)}
    assert drawn(violation) == {0: (2.0, WORSE), 1: (-2.0, BETTER), 2: (1.0, NEITHER)}
    assert [label.get_text() for label in success.get_yticklabels()] == ["up", "down", "unclear"]
    low, high = violation.get_xlim()
    assert low < -2.5 and 2.5 < high < 40.0, "an interval that says nothing must not push the others together"


def test_an_effect_far_beyond_the_others_stands_as_a_number_at_the_edge_and_does_not_push_them_together() -> None:
    sizes = {"small": 0.01, "larger": 0.02, "huge": 5.0, "enormous": -100.0}
    effects = {name: {"violation": Interval(size, 0.001, 3)} for name, size in sizes.items()}
    _, violation = effects_figure(effects, LARGER_IS_BETTER, "default").axes
    assert drawn(violation) == {0: (0.01, WORSE), 1: (0.02, WORSE)} and violation.get_xlim()[1] < 0.03
    told = {text.get_position()[1]: (text.get_text(), to_hex(text.get_color()).upper()) for text in violation.texts}
    assert told == {2: ("+5 →", WORSE), 3: ("← -100", BETTER)}


def test_what_is_not_known_leaves_its_row_empty() -> None:
    effects = {"few": {"success": None}, "no number": {"success": Interval(math.nan, math.nan, 3)}}
    success, violation = effects_figure(effects, LARGER_IS_BETTER, "default").axes
    assert not drawn(success) and not drawn(violation) and np.all(np.isfinite(success.get_xlim()))
    assert len(success.get_yticks()) == 2


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one effect"):
        effects_figure({}, LARGER_IS_BETTER, "default")
