"""The interactive page: flights in three dimensions with their barrier and clearance over time, in one HTML file."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence

import numpy as np
from plotly.offline import get_plotlyjs

from drone_cbf.reporting.figures import geometry, style
from drone_cbf.reporting.pages.viewer_page import PAGE
from drone_cbf.reporting.records import Array, Flight, require_flights

LARGEST_PAGE = 8_000_000
"""Bytes; plotly.js itself takes about 4.7 million of them."""
MOST_FRAMES = 600
"""Frames of one flight; longer flights show every second, third ... state, and always the last."""


def interactive_viewer(flights: Sequence[Flight], title: str) -> str:
    """A page that needs no network: plotly.js and the flights are inside, and its policy forbids any request.

    Choose a flight, play it or drag the slider; pointing at the path or the curves shows time, speed, clearance, h
    and whether the filter acted. Raises ValueError for no flights, or where the page would exceed ``LARGEST_PAGE``.
    """
    require_flights(flights)
    scenes = geometry.by_scene(flights)
    data = {
        "scenes": [_scene(scene) for scene in scenes],
        "flights": [_flight(flight, _scene_of(flight, scenes)) for flight in flights],
        "speedScale": style.speed_scale_hex(),
        "colours": {
            "obstacle": style.OBSTACLE, "acted": style.ACTED, "collision": style.COLLISION, "barrier": style.BARRIER,
            "truth": style.TRUE_BARRIER, "ink": style.INK, "muted": style.MUTED, "faint": style.FAINT,
            "goal": style.YELLOW, "clearance": style.GREEN,
        },
    }  # fmt: skip
    # A "</script>" inside a flight's name would end the data early.
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")
    # The data last: a name that spells another placeholder must not be filled in.
    page = PAGE.replace("@TITLE@", html.escape(title)).replace("@PLOTLY@", get_plotlyjs()).replace("@DATA@", text)
    size = len(page.encode())
    if size > LARGEST_PAGE:
        raise ValueError(f"interactive_viewer: {len(flights)} flights make {size / 1e6:.1f} MB; show fewer flights")
    return page


def frame_steps(steps: int) -> np.ndarray:
    """Indices of the states shown of T + 1: evenly spaced, the last always included, at most ``MOST_FRAMES`` + 1."""
    stride = -(-(steps + 1) // MOST_FRAMES)
    shown = np.arange(0, steps + 1, stride)
    return shown if shown[-1] == steps else np.append(shown, steps)


def _scene_of(flight: Flight, scenes: Sequence[Sequence[Flight]]) -> int:
    return next(index for index, scene in enumerate(scenes) if any(flight is other for other in scene))


def _scene(flights: Sequence[Flight]) -> dict[str, object]:
    """Obstacles as [x, y, [[z, distance from the axis], ...]] [m]: the page turns each outline about its axis."""
    heights = geometry.visible_heights(flights)
    obstacles = []
    for obstacle in flights[0].obstacles.table():
        profile = geometry.capsule_profile(obstacle, *heights)
        if profile is not None:
            obstacles.append([*_numbers(obstacle[:2]), [_numbers(row) for row in profile]])
    return {"obstacles": obstacles, "heights": _numbers(np.array(heights))}


def _flight(flight: Flight, scene: int) -> dict[str, object]:
    """Columns over the shown states. What belongs to a step is held at its first state; the last state repeats it."""
    shown = frame_steps(flight.steps)
    step = np.minimum(shown, flight.steps - 1)
    # Skipped steps must not hide a contact or an action: a frame stands for all the steps up to the next one.
    least = np.fmin.reduceat(flight.clearance, step)
    acted = np.maximum.reduceat(flight.acted, step)
    return {
        "name": flight.name, "scene": scene, "outcome": flight.outcome, "collided": bool(flight.collided),
        "noise": flight.noise, "filtered": bool(flight.filtered), "radius": flight.drone_radius,
        "goal": _numbers(flight.goal), "leastClearance": _numbers(np.array([flight.least_clearance]))[0],
        "actedShare": float(flight.acted.mean()),
        "time": _numbers(flight.times[shown]),
        "position": [_numbers(column) for column in flight.position[shown].T],
        "speed": _numbers(flight.speed[shown]), "correction": _numbers(flight.correction[step]),
        "clearance": _numbers(least), "barrier": _numbers(flight.barrier[step]),
        "analytic": _numbers(flight.analytic_barrier[step]),
        "slack": _numbers(flight.slack[step]), "acted": acted.astype(int).tolist(),
        "status": flight.status[step].tolist(),
    }  # fmt: skip


def _numbers(values: Array) -> list[float | None]:
    """To a tenth of a millimetre; JSON knows neither NaN nor infinity, and plotly draws null as a gap."""
    return [round(value, 4) if np.isfinite(value) else None for value in values.tolist()]
