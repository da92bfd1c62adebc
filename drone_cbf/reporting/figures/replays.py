"""Replayed flights: clearance, barrier and CBF violation over time, with the recorded worst step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from drone_cbf.reporting.figures import style, time_axes
from drone_cbf.reporting.records import Array, Flight

MOST_REPLAYS = 6
"""Most flights in one figure, one column each."""


@dataclass(frozen=True, eq=False)
class Replay:
    """A replayed flight."""

    flight: Flight
    violation: Array
    """(-(dh/dt + alpha h))+ of the analytic barrier where the command acts, from the true state [m/s], (T,)."""
    step: int
    """Worst step of the recorded flight."""
    recorded: float
    """Largest violation of the recorded flight [m/s]."""

    def __post_init__(self) -> None:
        if np.shape(self.violation) != (self.flight.steps,) or not 0 <= self.step < self.flight.steps:
            raise ValueError(
                f"Replay {self.flight.name!r}: violation has shape {np.shape(self.violation)} and step is {self.step}; "
                f"the flight has {self.flight.steps} steps"
            )


@style.styled
def replays_over_time(replays: Sequence[Replay], title: str) -> Figure:
    """One column per flight: clearance, barrier flown and true, violation; a line at the recorded worst step.

    Raises ValueError for no flights, or more than :data:`MOST_REPLAYS`.
    """
    if not 0 < len(replays) <= MOST_REPLAYS:
        raise ValueError(f"replays_over_time: {len(replays)} flights; one figure shows 1 to {MOST_REPLAYS}")
    figure = style.new_figure(3.9 * len(replays) + 0.6, 7.4, title)
    panels = figure.subplots(3, len(replays), sharex="col", sharey="row", squeeze=False)
    for column, replay in zip(panels.T, replays, strict=True):
        flight = replay.flight
        time_axes.draw_clearance(column[0], [flight])
        time_axes.draw_barrier(column[1], flight)
        _draw_violation(column[2], replay)
        for axes in column:
            time_axes.shade_acting(axes, flight)
            axes.axvline(replay.step * flight.time_step, color=style.PURPLE, lw=1.0, ls=(0, (4, 3)), gid="worst")
            axes.label_outer()
        column[0].set_title(f"{flight.name}: {flight.outcome}\n", color=style.outcome_colour(flight.collided))
        column[-1].set(xlabel="time [s]", xlim=(0.0, flight.times[-1]))
    figure.align_ylabels(panels[:, 0])
    return figure


def _draw_violation(axes: Axes, replay: Replay) -> None:
    """[m/s]; the circle is the recorded value."""
    times = replay.flight.times[:-1]
    values = np.where(np.isfinite(replay.violation), replay.violation, np.nan)
    axes.plot(times, values, color=style.VERMILION, gid="violation")
    look = {"marker": "o", "ls": "", "ms": 5, "mfc": "none", "color": style.PURPLE}
    axes.plot([times[replay.step]], [replay.recorded], label="recorded", gid="recorded", **look)
    axes.grid(True)
    axes.set_ylabel("CBF violation [m/s]")
    axes.legend(loc="upper right")
