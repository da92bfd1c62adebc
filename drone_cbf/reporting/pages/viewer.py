"""The interactive page: flights in three dimensions with barrier and clearance over time, in one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.colors import to_hex
from plotly.offline import get_plotlyjs

from drone_cbf.reporting.figures import geometry, style
from drone_cbf.reporting.pages import render
from drone_cbf.reporting.records import Array, Flight, require_flights

LARGEST_PAGE = 8_000_000  # bytes; plotly.js itself takes about 4.7 million of them
MOST_FRAMES = 600  # frames of one flight; longer flights show every second, third ... state, and always the last
NEARBY = 1.0  # obstacles that come this close to a path [m] are always inside the view
SMALLEST_VIEW = 2.0  # least side of the view [m]
COLOURS = {
    "obstacle": style.OBSTACLE, "acted": style.ACTED, "collision": style.COLLISION, "on": style.BLUE,
    "off": style.VERMILION, "ink": style.INK, "muted": style.MUTED, "faint": style.FAINT, "goal": style.YELLOW,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class ShownFlight:
    """One entry of the viewer's list."""

    flight: Flight
    without_filter: Flight | None = None
    """The same scene flown by the same policy without the filter, shown in the same picture."""
    group: str = "Flights"
    """Why it is shown: a heading in the list."""

    def __post_init__(self) -> None:
        on, off = self.flight, self.without_filter
        if off is None:
            return
        if not on.filtered or off.filtered:
            raise ValueError(f"entry {on.name!r}: `flight` must be filtered and `without_filter` must not be")
        if on.steps != off.steps or not on.obstacles.same_as(off.obstacles):
            raise ValueError(f"entry {on.name!r}: both flights need the same obstacles and the same number of steps")

    @property
    def flights(self) -> list[Flight]:
        """The flight, then the one without the filter if there is one."""
        return [self.flight] if self.without_filter is None else [self.flight, self.without_filter]


def interactive_viewer(shown: Sequence[ShownFlight], title: str, statuses: Sequence[str] = ()) -> str:
    """A page that needs no network: plotly.js and the flights are embedded, and its policy forbids any request.

    It opens with the first entry. ``statuses``: name of each status code of the filter. Raises ValueError for no
    flights, or where the page would exceed ``LARGEST_PAGE``.
    """
    require_flights([entry.flight for entry in shown])
    scale = [(fraction, to_hex(style.speed_scale()(fraction))) for fraction in np.linspace(0.0, 1.0, 11).tolist()]
    data = {"entries": list(map(_entry, shown)), "statuses": list(statuses), "speedScale": scale, "colours": COLOURS}
    page = render("viewer.html", title=title, plotly=get_plotlyjs(), data=data)
    size = len(page.encode())
    if size > LARGEST_PAGE:
        raise ValueError(f"interactive_viewer: {len(shown)} flights make {size / 1e6:.1f} MB; show fewer flights")
    return page


def frame_steps(steps: int) -> np.ndarray:
    """Indices of the states shown of T + 1: evenly spaced, the last always included, at most ``MOST_FRAMES`` + 1."""
    stride = -(-(steps + 1) // MOST_FRAMES)
    return np.unique(np.append(np.arange(0, steps + 1, stride), steps))


def _entry(entry: ShownFlight) -> dict[str, object]:
    low, high, obstacles = _view(entry.flights)
    return {
        "name": entry.flight.name,
        "group": entry.group,
        "flights": [_flight(flight) for flight in entry.flights],
        "box": [_numbers(side) for side in np.column_stack([low, high])],
        "obstacles": [[*_numbers(obstacle[:2]), [_numbers(row) for row in profile]] for obstacle, profile in obstacles],
    }


def _view(flights: Sequence[Flight]) -> tuple[Array, Array, list[tuple[Array, Array]]]:
    """Lowest and highest corner of the view [m], and the obstacles inside with their outlines (z, radius) [m].

    The view holds the paths, the goal, and the obstacles near a path as a whole.
    """
    path = geometry.flown_points(flights)
    low, high = path.min(0), path.max(0)
    solids = []
    for obstacle in flights[0].obstacles.capsules.table():
        profile = geometry.capsule_profile(obstacle, *geometry.visible_heights(flights))
        if profile is not None:
            reach = np.append(obstacle[[3, 3]], 0.0)
            corners = np.array([[*obstacle[:2], edge] for edge in (profile[:, 0].min(), profile[:, 0].max())])
            solids.append((obstacle, profile, corners[0] - reach, corners[1] + reach))
            if geometry.capsule_distance(obstacle, path).min() < NEARBY:
                low, high = np.minimum(low, solids[-1][2]), np.maximum(high, solids[-1][3])
    short = np.maximum(SMALLEST_VIEW - (high - low), 0.2) / 2.0
    low, high = low - short, high + short
    return low, high, [solid[:2] for solid in solids if (solid[2] >= low).all() and (solid[3] <= high).all()]


def _flight(flight: Flight) -> dict[str, object]:
    """Columns over the shown states. What belongs to a step is held at its first state; the last state repeats it."""
    shown = frame_steps(flight.steps)
    step = np.minimum(shown, flight.steps - 1)
    # Skipped steps must not hide a contact or an action: a frame stands for all the steps up to the next one.
    least = np.fmin.reduceat(flight.clearance, step)
    acted = np.maximum.reduceat(flight.acted, step)
    columns = {
        "time": flight.times[shown], "speed": flight.speed[shown], "correction": flight.correction[step],
        "clearance": least, "barrier": flight.barrier[step], "analytic": flight.analytic_barrier[step],
        "slack": flight.slack[step], "goal": flight.goal,
    }  # fmt: skip
    return {
        **{name: _numbers(values) for name, values in columns.items()},
        "position": [_numbers(column) for column in flight.position[shown].T],
        "acted": acted.astype(int).tolist(),
        "status": flight.status[step].tolist(),
        "leastClearance": _numbers(np.array([flight.least_clearance]))[0],
        "actedShare": float(flight.acted.mean()),
        "outcome": flight.outcome,
        "collided": bool(flight.collided),
        "filtered": bool(flight.filtered),
        "noise": round(flight.noise, 4),
    }


def _numbers(values: Array) -> list[float | None]:
    """To a tenth of a millimetre; JSON knows neither NaN nor infinity, and plotly draws null as a gap."""
    return [round(value, 4) if np.isfinite(value) else None for value in values.tolist()]
