"""The interactive page: flights in three dimensions with barrier and clearance over time, in one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.colors import to_hex
from plotly.offline import get_plotlyjs

from drone_cbf.reporting.figures import style
from drone_cbf.reporting.pages import render, viewer_body, viewer_scene, viewer_sensor
from drone_cbf.reporting.pages.viewer_scene import numbers
from drone_cbf.reporting.records import Flight, require_flights

LARGEST_PAGE = 8_000_000  # bytes; plotly.js itself takes about 4.7 million of them
MOST_FRAMES = 600  # frames of one flight; longer flights show every second, third ... state, and always the last
SENSOR_BYTES = 2_000_000  # of the page for all sensor layers together; more is thinned in time
COLOURS = {
    "obstacle": style.OBSTACLE, "acted": style.ACTED, "collision": style.COLLISION, "on": style.BLUE,
    "off": style.VERMILION, "ink": style.INK, "muted": style.MUTED, "faint": style.FAINT, "goal": style.YELLOW,
    "ground": style.GROUND, "seen": style.SEEN, "moving": style.MOVING,
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
    share = SENSOR_BYTES // max(1, sum(viewer_sensor.has_sensor(entry.flight) for entry in shown))
    entries = [_entry(entry, share) for entry in shown]
    data = {"entries": entries, "statuses": list(statuses), "speedScale": scale, "colours": COLOURS}
    page = render("viewer.html", title=title, plotly=get_plotlyjs(), data=data)
    size = len(page.encode())
    if size > LARGEST_PAGE:
        raise ValueError(f"interactive_viewer: {len(shown)} flights make {size / 1e6:.1f} MB; show fewer flights")
    return page


def frame_steps(steps: int) -> np.ndarray:
    """Indices of the states shown of T + 1: evenly spaced, the last always included, at most ``MOST_FRAMES`` + 1."""
    stride = -(-(steps + 1) // MOST_FRAMES)
    return np.unique(np.append(np.arange(0, steps + 1, stride), steps))


def _entry(entry: ShownFlight, sensor_bytes: int) -> dict[str, object]:
    shown = frame_steps(entry.flight.steps)
    return {
        "name": entry.flight.name,
        "group": entry.group,
        "flights": [_flight(flight) for flight in entry.flights],
        "sensor": viewer_sensor.packed(entry.flight, np.minimum(shown, entry.flight.steps - 1), sensor_bytes),
        **viewer_scene.scene(entry.flights),
    }


def _flight(flight: Flight) -> dict[str, object]:
    """Columns over the shown states. What belongs to a step is held at its first state; the last state repeats it."""
    shown = frame_steps(flight.steps)
    step = np.minimum(shown, flight.steps - 1)
    # Skipped steps must not hide a contact or an action: a frame stands for all the steps up to the next one.
    least = np.fmin.reduceat(flight.clearance, step)
    acted = np.maximum.reduceat(flight.acted, step)
    attitude = viewer_body.attitudes(flight)[shown]
    columns = {
        "time": flight.times[shown], "speed": flight.speed[shown], "correction": flight.correction[step],
        "clearance": least, "barrier": flight.barrier[step], "analytic": flight.analytic_barrier[step],
        "slack": flight.slack[step], "goal": flight.goal,
        "tilt": np.degrees(viewer_body.tilts(attitude)),
    }  # fmt: skip
    return {
        **{name: numbers(values) for name, values in columns.items()},
        "position": [numbers(column) for column in flight.position[shown].T],
        "attitude": [numbers(turn) for turn in attitude],
        "rates": None if flight.rates is None else [numbers(rates, 2) for rates in flight.rates[shown]],
        "radius": flight.drone_radius,
        "acted": acted.astype(int).tolist(),
        "status": flight.status[step].tolist(),
        "leastClearance": numbers(np.array([flight.least_clearance]))[0],
        "actedShare": float(flight.acted.mean()),
        "outcome": flight.outcome,
        "collided": bool(flight.collided),
        "filtered": bool(flight.filtered),
        "noise": round(flight.noise, 4),
    }
