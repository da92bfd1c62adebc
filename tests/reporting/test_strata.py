import numpy as np
import pytest

from drone_cbf.reporting.figures.barriers import strata_figure

from .test_flights import draw

REPORT = {
    "boundary_error_mean": 0.01,
    "boundary_error_p99": 0.04,
    "boundary_overestimate_p99": 0.03,
    "gradient_cosine": 0.98,
}


def test_every_stratum_has_a_bar_of_its_figure_in_every_panel():
    strata = {"open": REPORT, "gap": {**REPORT, "boundary_error_p99": 0.09, "gradient_cosine": 0.9}}
    figure = strata_figure(strata)
    widths = {bar.get_gid(): [] for axes in figure.axes for bar in axes.patches}
    for axes in figure.axes:
        for bar in axes.patches:
            widths[bar.get_gid()].append(bar.get_width())
    assert np.allclose(widths["boundary_error_p99"], [4.0, 9.0]) and np.allclose(widths["gradient_cosine"], [0.98, 0.9])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["open", "gap"]
    low, high = figure.axes[2].get_xlim()
    assert 0.8 < low < 0.9 and high > 1.0
    draw(figure)


def test_a_figure_without_evidence_is_written_out_and_nothing_at_all_is_an_error():
    figure = strata_figure({"gap": {**REPORT, "gradient_cosine": float("nan")}})
    assert "no state near the boundary" in figure.axes[2].texts[0].get_text()
    with pytest.raises(ValueError, match="at least one stratum"):
        strata_figure({})
