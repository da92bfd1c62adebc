"""A flight as a recording of Rerun (``.rrd``), with a layout: the scene beside speed, h, clearance and commands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rerun as rr
import rerun.blueprint as rrb

from drone_cbf.recordings.solids import Solid, solids_of
from drone_cbf.reporting.fields import Array
from drone_cbf.reporting.records import Flight

APPLICATION = "drone_cbf"
TIME = "flight"
"""Name of the timeline [s]."""
OBSTACLE, MOVING, GROUND = (154, 165, 177), (127, 157, 191), (237, 231, 219)
GOAL, PATH, BODY, HIT = (0, 158, 115), (0, 114, 178), (213, 94, 0), (204, 121, 167)
ARMS = (51, 51, 51)
VALUES = {"barrier": PATH, "analytic_barrier": (230, 159, 0), "clearance": GOAL, "slack": BODY}
AXES = {"x": (213, 94, 0), "y": (0, 158, 115), "z": (0, 114, 178)}
"""What is plotted, and its colour; a nominal command is paler than the one that was flown."""
PALE = 110  # Opacity of 255


def write_rerun(flight: Flight, path: Path, statuses: Sequence[str]) -> None:
    """Writes ``flight`` to ``path``, which is replaced. ``statuses``: the name of each status code."""
    with rr.RecordingStream(APPLICATION, recording_id=flight.name) as recording:
        recording.save(path, default_blueprint=_layout(flight))
        recording.send_recording_name(flight.name)
        recording.log("world", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
        solids = solids_of(flight)
        for solid in solids:
            recording.log(f"world/obstacles/{solid.name}", _shape(solid), static=True)
        recording.log("world/goal", rr.Points3D([flight.goal], radii=0.1, colors=GOAL, labels=["goal"]), static=True)
        recording.log("world/path", rr.LineStrips3D([flight.position], colors=PATH), static=True)
        for part, look in _body(flight):
            recording.log(f"world/drone/{part}", look, static=True)
        for solid in solids:
            if solid.moves:
                places = solid.centre + flight.times[:, None] * solid.velocity
                _send_places(recording, f"world/obstacles/{solid.name}", flight.times, places)
        _send_places(recording, "world/drone", flight.times, flight.position, flight.attitude)
        for name, times, values, colour in _curves(flight):
            recording.log(name, rr.SeriesLines(colors=colour), static=True)
            recording.send_columns(name, [_column(times)], rr.Scalars.columns(scalars=values))
        for step, text in _events(flight, statuses):
            recording.set_time(TIME, duration=float(flight.times[step]))
            recording.log("log", rr.TextLog(text))
        _log_sensor(recording, flight)


def _layout(flight: Flight) -> rrb.Blueprint:
    curves: list[rrb.View] = [
        rrb.TimeSeriesView(name="barrier and clearance [m]", origin="barrier"),
        rrb.TimeSeriesView(name="speed [m/s]", origin="speed"),
        rrb.TimeSeriesView(name="commands [m/s²]", origin="commands"),
        rrb.TextLogView(name="log", origin="log"),
    ]
    if flight.rates is not None:
        curves.insert(3, rrb.TimeSeriesView(name="body rates [rad/s]", origin="rates"))
    scene: rrb.Spatial3DView | rrb.Vertical = rrb.Spatial3DView(name=flight.name, origin="world")
    if flight.depth is not None:
        scene = rrb.Vertical(scene, rrb.Spatial2DView(name="depth", origin="depth"), row_shares=[3, 1])
    return rrb.Blueprint(rrb.Horizontal(scene, rrb.Vertical(*curves), column_shares=[3, 2]), collapse_panels=True)


def _shape(solid: Solid) -> rr.AsComponents:
    """Where it is at time zero; one that moves is drawn at the origin of its own, moving frame."""
    colour = GROUND if solid.kind == "ground" else MOVING if solid.moves else OBSTACLE
    centre = np.zeros((1, 3)) if solid.moves else solid.centre[None]
    look: dict[str, Any] = {
        "quaternions": [rr.Quaternion(xyzw=solid.orientation)],
        "colors": colour,
        "fill_mode": "solid",
    }
    if solid.kind in ("box", "ground"):
        return rr.Boxes3D(half_sizes=solid.size[None] / 2.0, centers=centre, **look)
    radius = solid.size[0] / 2.0
    if solid.kind == "cylinder":
        return rr.Cylinders3D(lengths=[solid.size[2]], radii=[radius], centers=centre, **look)
    straight = solid.size[2] - 2.0 * radius
    if straight <= 0.0:
        return rr.Ellipsoids3D(half_sizes=[3 * [radius]], centers=centre, **look)
    # Rerun's capsules begin at their lower end.
    lower = centre - np.array([0.0, 0.0, straight / 2.0])
    return rr.Capsules3D(lengths=[straight], radii=[radius], translations=lower, **look)


def _body(flight: Flight) -> Iterator[tuple[str, rr.AsComponents]]:
    """The drone in its own frame: its hull, and where its model turns it, four arms and an arrow ahead."""
    radius, turns = flight.drone_radius, flight.attitude is not None
    look: Any = rr.components.FillMode.DenseWireframe if turns else "solid"
    yield "hull", rr.Ellipsoids3D(half_sizes=[3 * [radius]], colors=BODY, fill_mode=look)
    if turns:
        across = radius * 0.5**0.5
        arms = [[[-across, -across, 0.0], [across, across, 0.0]], [[-across, across, 0.0], [across, -across, 0.0]]]
        yield "arms", rr.LineStrips3D(arms, colors=ARMS, radii=0.06 * radius)
        yield "ahead", rr.Arrows3D(vectors=[[1.4 * radius, 0.0, 0.0]], colors=BODY, radii=0.06 * radius)


def _curves(flight: Flight) -> Iterator[tuple[str, Array, Array, tuple[int, ...]]]:
    """Name, times [s], values and colour of each curve."""
    starts = flight.times[:-1]
    for name, colour in VALUES.items():
        yield f"barrier/{name}", starts, getattr(flight, name), colour
    yield "speed", flight.times, flight.speed, PATH
    if flight.rates is not None:
        for axis, (letter, colour) in enumerate(AXES.items()):
            yield f"rates/{letter}", flight.times, flight.rates[:, axis], colour
    for name, opacity in (("command", 255), ("nominal", PALE)):
        for axis, (letter, colour) in enumerate(AXES.items()):
            yield f"commands/{name}_{letter}", starts, getattr(flight, name)[:, axis], (*colour, opacity)


def _events(flight: Flight, statuses: Sequence[str]) -> Iterator[tuple[int, str]]:
    for step in np.flatnonzero(np.diff(flight.status, prepend=-1)):
        yield int(step), f"filter: {statuses[flight.status[step]]}"
    yield flight.steps, f"{flight.outcome}, least clearance {flight.least_clearance:.3f} m"


def _send_places(
    recording: rr.RecordingStream, name: str, times: Array, places: Array, attitude: Array | None = None
) -> None:
    """``attitude``: quaternions (w, x, y, z); None for what does not turn."""
    turns = None if attitude is None else attitude[:, [1, 2, 3, 0]]
    recording.send_columns(name, [_column(times)], rr.Transform3D.columns(translation=places, quaternion=turns))


def _column(times: Array) -> rr.TimeColumn:
    return rr.TimeColumn(TIME, duration=times)


def _log_sensor(recording: rr.RecordingStream, flight: Flight) -> None:
    for step in range(flight.steps):
        recording.set_time(TIME, duration=float(flight.times[step]))
        if flight.seen is not None:
            recording.log("world/points", rr.Points3D(flight.hits(step), radii=0.02, colors=HIT))
        if flight.depth is not None:
            depth = np.where(np.isfinite(flight.depth[step]), flight.depth[step], 0.0)  # zero: nothing known
            recording.log("depth", rr.DepthImage(depth.astype(np.float32), meter=1.0))
