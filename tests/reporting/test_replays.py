"""The figure of flights flown again."""

import numpy as np
import pytest

from drone_cbf.reporting.figures.over_time import MOST_REPLAYS, Replay, replays_over_time


@pytest.fixture
def replay(make_flight):
    flight = make_flight()
    violation = np.linspace(0.0, 1.5, flight.steps)
    return Replay(flight, violation, step=7, recorded=1.25)


def lines(axes, gid):
    return [line for line in axes.lines if line.get_gid() == gid]


def test_violation_and_the_recorded_worst_moment_are_drawn_in_every_panel(replay):
    panels = np.array(replays_over_time([replay, replay], "again").axes).reshape(3, 2)
    for axes in panels[2]:
        np.testing.assert_array_equal(lines(axes, "violation")[0].get_ydata(), replay.violation)
        (recorded,) = lines(axes, "recorded")
        assert recorded.get_xydata().tolist() == [[7 * replay.flight.time_step, 1.25]]
    for axes in panels.ravel():
        (worst,) = lines(axes, "worst")
        assert worst.get_xdata()[0] == 7 * replay.flight.time_step
    np.testing.assert_array_equal(lines(panels[0, 0], "clearance")[0].get_ydata(), replay.flight.clearance)


def test_a_violation_that_is_not_a_number_is_a_gap(replay):
    spoilt = Replay(replay.flight, np.where(np.arange(replay.flight.steps) == 3, np.nan, 1.0), 3, 1.0)
    axes = replays_over_time([spoilt], "again").axes[2]
    assert np.isnan(lines(axes, "violation")[0].get_ydata()[3])


def test_too_many_flights_or_none_and_a_violation_of_another_length_are_refused(replay):
    for count in (0, MOST_REPLAYS + 1):
        with pytest.raises(ValueError, match=f"{count} flights; one figure shows 1 to"):
            replays_over_time([replay] * count, "again")
    with pytest.raises(ValueError, match="violation has shape"):
        Replay(replay.flight, replay.violation[:-1], 7, 1.0)
