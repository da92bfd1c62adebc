"""Draws the quantities of a flight over time on one panel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from drone_cbf.reporting.figures import style
from drone_cbf.reporting.records import RELAXED_THRESHOLD, Array, Flight


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


def draw_barrier(axes: Axes, flight: Flight) -> None:
    """The barrier as flown and the analytic one at the true state, both where the command acts [m]."""
    _draw(axes, flight, flight.analytic_barrier, style.TRUE_BARRIER, "analytic, true state", "analytic", (0, (4, 2)))
    _draw(axes, flight, flight.barrier, style.BARRIER, "flown", "barrier")
    _finish(axes, "barrier h [m]", "no barrier evaluated")


def draw_speed(axes: Axes, flight: Flight) -> None:
    """[m/s]"""
    axes.plot(flight.times, flight.speed, color=style.GREEN, gid="speed")
    axes.grid(True)
    axes.set(ylabel="speed [m/s]", ylim=(0.0, max(1.08 * flight.speed.max(), 0.1)))


def draw_correction(axes: Axes, flight: Flight) -> None:
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


def shade_acting(axes: Axes, flight: Flight) -> None:
    """One band (gid "acting") over each run of steps on which the filter changed the command."""
    for begin, end in acting_spans(flight):
        axes.axvspan(begin, end, color=style.ACTED, alpha=0.16, lw=0, gid="acting", zorder=0.4)


def acting_spans(flight: Flight) -> Array:
    """Begin and end [s] of every unbroken run of acting steps, (R, 2)."""
    padded = np.concatenate([[False], flight.acted, [False]]).astype(int)
    begin, end = np.flatnonzero(np.diff(padded) == 1), np.flatnonzero(np.diff(padded) == -1)
    return np.column_stack([flight.times[begin], flight.times[end]])


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
