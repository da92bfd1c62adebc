"""Flights over time: clearance, barrier, speed and correction of one, or the violation of replayed ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from drone_cbf.reporting.figures import style
from drone_cbf.reporting.records import RELAXED_THRESHOLD, Array, Flight, require_flights

MOST_REPLAYS = 6  # flights in one figure, one column each


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
def flight_over_time(flight: Flight) -> Figure:
    """Clearance, barrier flown and true, speed, and the filter's correction over time; shaded where the filter acts."""
    require_flights([flight])
    figure = style.new_figure(7.6, 7.2, f"{flight.name}: {flight.outcome}, observation noise {flight.noise:g} m")
    panels = figure.subplots(4, 1, sharex=True, height_ratios=(1.2, 1.2, 1.0, 1.0))
    draw_clearance(panels[0], [flight])
    _draw_barrier(panels[1], flight)
    panels[2].plot(flight.times, flight.speed, color=style.GREEN, gid="speed")
    panels[2].grid(True)
    panels[2].set(ylabel="speed [m/s]", ylim=(0.0, max(1.08 * flight.speed.max(), 0.1)))
    _draw_correction(panels[3], flight)
    _finish_column(panels, flight)
    figure.align_ylabels(panels)
    return figure


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
        draw_clearance(column[0], [flight])
        _draw_barrier(column[1], flight)
        _draw_violation(column[2], replay)
        _finish_column(column, flight)
        for axes in column:
            axes.axvline(replay.step * flight.time_step, color=style.PURPLE, lw=1.0, ls=(0, (4, 3)), gid="worst")
        colour = style.COLLISION if flight.collided else style.INK
        column[0].set_title(f"{flight.name}: {flight.outcome}\n", color=colour)
    figure.align_ylabels(panels[:, 0])
    return figure


def draw_clearance(axes: Axes, flights: Sequence[Flight], labels: Sequence[str] | None = None) -> None:
    """Distance between the surfaces of drone and obstacles [m]; below zero is a collision, drawn in red."""
    for index, flight in enumerate(flights):
        label = labels[index] if labels else f"least {flight.least_clearance:.2f} m"
        _draw(axes, flight, flight.clearance, (style.BLUE, style.VERMILION)[index % 2], label, "clearance")
        inside = np.where(flight.clearance < 0.0, flight.clearance, np.nan)
        if np.isfinite(inside).any():
            axes.fill_between(flight.times[:-1], inside, 0.0, color=style.COLLISION, alpha=0.35, lw=0, zorder=1.5)
    if any(flight.acted.any() for flight in flights):
        axes.fill_between([], [], [], color=style.ACTED, alpha=0.16, lw=0, label="filter acts")
    _finish(axes, "clearance [m]", "no clearance recorded")


def shade_acting(axes: Axes, flight: Flight) -> None:
    """One band (gid "acting") over each unbroken run of steps on which the filter changed the command."""
    turns = np.flatnonzero(np.diff(np.concatenate([[False], flight.acted, [False]]).astype(int)))
    for begin, end in flight.times[turns].reshape(-1, 2):
        axes.axvspan(begin, end, color=style.ACTED, alpha=0.16, lw=0, gid="acting", zorder=0.4)


def _draw_barrier(axes: Axes, flight: Flight) -> None:
    """The barrier as flown and the analytic one at the true state, both where the command acts [m]."""
    _draw(axes, flight, flight.analytic_barrier, style.TRUE_BARRIER, "analytic, true state", "analytic", (0, (4, 2)))
    _draw(axes, flight, flight.barrier, style.BARRIER, "flown", "barrier")
    _finish(axes, "barrier h [m]", "no barrier evaluated")


def _draw_correction(axes: Axes, flight: Flight) -> None:
    """|safe - nominal command| [m/s^2], held for one period each; a mark above where the row had to be relaxed."""
    edges = np.append(flight.correction, flight.correction[-1])
    axes.step(flight.times, edges, where="post", color=style.ACTED, lw=1.2, gid="correction")
    top = max(1.15 * flight.correction.max(), 0.1)
    relaxed = flight.slack > RELAXED_THRESHOLD
    if relaxed.any():
        label = f"row relaxed on {relaxed.mean():.1%} of steps"
        marks = np.full(int(relaxed.sum()), 0.95 * top)
        axes.plot(flight.times[:-1][relaxed], marks, "v", ms=4, color=style.PURPLE, label=label, gid="relaxed")
        style.legend_above(axes)
    axes.grid(True)
    axes.set(ylabel="|safe \N{MINUS SIGN} nominal|\n[m/s²]", ylim=(0.0, top))
    if not flight.filtered:
        style.say_empty(axes, "flown without a filter")


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


def _draw(axes: Axes, flight: Flight, values: Array, colour: str, label: str, gid: str, dashes: Any = "-") -> None:
    """Infinite values (nothing near) are gaps, as matplotlib cannot scale to them; nothing finite, no line."""
    if np.isfinite(values).any():
        values = np.where(np.isfinite(values), values, np.nan)
        marker = "o" if flight.steps == 1 else ""  # a line of one point is invisible
        axes.plot(flight.times[:-1], values, color=colour, ls=dashes, label=label, marker=marker, gid=gid)


def _finish(axes: Axes, label: str, reason: str) -> None:
    """Zero line and legend, or the reason why there is no curve."""
    drawn = bool(axes.lines)
    axes.axhline(0.0, color=style.COLLISION, lw=1.0, gid="zero", zorder=1.4)
    axes.grid(True)
    axes.set_ylabel(label)
    if drawn:
        style.legend_above(axes)
    else:
        style.say_empty(axes, reason)


def _finish_column(panels: Sequence[Axes], flight: Flight) -> None:
    for axes in panels:
        shade_acting(axes, flight)
        axes.label_outer()
    panels[-1].set(xlabel="time [s]", xlim=(0.0, flight.times[-1]))
