"""A swarm's flights in one figure: least gap and arrivals over time, and where its drones were, from above."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from drone_cbf.reporting.fields import Array
from drone_cbf.reporting.figures import style
from drone_cbf.reporting.swarms import SwarmFlight, require_swarms

CELLS = 40  # of the map of density, along its longer side
DENSITY = "magma_r"
SHOWN_GAP = 6.0  # Gaps are shown up to this many radii of a drone: what is farther apart needs no look
LOOKS = {True: ("filter on", style.BLUE), False: ("filter off", style.VERMILION)}


@style.styled
def swarm_figure(swarms: Sequence[SwarmFlight], title: str, unfiltered: Sequence[SwarmFlight] = ()) -> Figure:
    """Least gap between two hulls in every swarm (lines) and among all of them (bold), share of drones at their goals,
    and mean density of drones from above, of ``swarms`` of the same length.

    ``unfiltered``: the same scenes without the filter, in the panels over time. Raises ValueError for no swarms, or
    swarms of different lengths.
    """
    require_swarms(swarms)
    every = [*swarms, *unfiltered]
    if len({(swarm.steps, swarm.time_step) for swarm in every}) > 1:
        raise ValueError("swarm_figure: swarms of different numbers of steps; draw a figure for each number")
    figure = style.new_figure(11.4, 3.9, f"{title}: {len(swarms)} x {swarms[0].drones} drones")
    gap, arrived, above = figure.subplots(1, 3, width_ratios=(1.15, 1.0, 1.1))
    for some in (unfiltered, swarms):
        if some:
            _draw_gaps(gap, some)
            _draw_arrivals(arrived, some)
    gap.axhline(0.0, color=style.COLLISION, lw=1.0)
    gap.set(title="least gap between two hulls", xlabel="time [s]", ylabel="[m]", ylim=_gap_limits(every))
    arrived.yaxis.set_major_formatter(PercentFormatter(1.0))
    arrived.set(title="drones at their goals", xlabel="time [s]", ylim=(0.0, 1.03))
    for axes in (gap, arrived):
        axes.grid(True)
        axes.set_xlim(0.0, swarms[0].times[-1])
    if unfiltered:
        arrived.legend(loc="lower right")
    _draw_density(figure, above, swarms)
    return figure


def _gap_limits(swarms: Sequence[SwarmFlight]) -> tuple[float, float]:
    radius = swarms[0].drone_radius
    least = min(float(swarm.least_gap.min()) for swarm in swarms)
    return min(least, 0.0) - 0.3 * radius, SHOWN_GAP * radius


def _draw_gaps(axes: Axes, swarms: Sequence[SwarmFlight]) -> None:
    label, colour = LOOKS[swarms[0].filtered]
    times = swarms[0].times[:-1]
    for swarm in swarms:
        axes.plot(times, swarm.least_gap, color=colour, lw=0.6, alpha=0.25)
    least = np.min([swarm.least_gap for swarm in swarms], axis=0)
    axes.plot(times, least, color=colour, lw=style.LINE, label=label, gid="least gap")


def _draw_arrivals(axes: Axes, swarms: Sequence[SwarmFlight]) -> None:
    """Mean over the swarms, and from the slowest to the fastest."""
    label, colour = LOOKS[swarms[0].filtered]
    shares, times = np.array([swarm.arrived for swarm in swarms]), swarms[0].times
    axes.fill_between(times, shares.min(0), shares.max(0), color=colour, alpha=0.15, lw=0)
    axes.plot(times, shares.mean(0), color=colour, lw=style.LINE, label=label, gid="arrived")


def density(swarms: Sequence[SwarmFlight]) -> tuple[Array, Array, Array]:
    """Mean number of drones above each square metre over the flights of ``swarms`` [1/m^2], (nx, ny), and the edges of
    its square cells along x, (nx + 1,), and y, (ny + 1,) [m]."""
    places = np.concatenate([swarm.position[..., :2].reshape(-1, 2) for swarm in swarms])
    low, high = places.min(0), places.max(0)
    side = max(float((high - low).max()), 1e-3) / CELLS
    counts = np.maximum(np.ceil((high - low) / side - 1e-9).astype(int), 1)
    edges = [low[axis] + side * np.arange(counts[axis] + 1) for axis in range(2)]
    edges = [np.append(edge[:-1], max(edge[-1], high[axis])) for axis, edge in enumerate(edges)]
    found, *_ = np.histogram2d(places[:, 0], places[:, 1], bins=edges)
    states = sum(swarm.steps + 1 for swarm in swarms)
    return found / (states * side**2), edges[0], edges[1]


def _draw_density(figure: Figure, axes: Axes, swarms: Sequence[SwarmFlight]) -> None:
    found, x, y = density(swarms)
    shown = axes.pcolormesh(x, y, np.ma.masked_equal(found.T, 0.0), cmap=DENSITY, vmin=0.0, rasterized=True)
    axes.set_aspect("equal")
    axes.set(title="density from above", xlabel="x [m]", ylabel="y [m]")
    style.colour_bar(figure, shown, [axes], "drones per square metre, mean over time", shrink=0.8)
