"""The interactive page of swarms: all drones of a scene together, drawn without any library, in one HTML file."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from drone_cbf.reporting.fields import Array
from drone_cbf.reporting.figures import polyhedra, style
from drone_cbf.reporting.pages import render
from drone_cbf.reporting.pages.viewer_scene import numbers
from drone_cbf.reporting.swarms import SwarmFlight, require_swarms

LARGEST_PAGE = 8_000_000  # bytes
BYTES_PER_STATE = 6 * 4 / 3 + 4 / 3  # of one drone at one time: three coordinates and its status, in base64
MOST_FRAMES = 600  # of one swarm; of longer flights, and of large swarms, every second, third ... state is shown
LEVELS = 65535  # of a coordinate between the least and the largest
COLOURS = {
    "nominal": style.BLUE, "intervened": style.ORANGE, "relaxed": style.VERMILION, "no_authority": style.YELLOW,
    "fallback": style.INK, "unavoidable": style.PURPLE, "no_points": style.INK,
}  # fmt: skip
"""Status of the filter -> colour of a drone."""
LOOK = {
    "collision": style.COLLISION, "arrived": style.GREEN, "obstacle": style.OBSTACLE, "moving": style.MOVING,
    "ground": style.GROUND, "ink": style.INK, "muted": style.MUTED, "faint": style.FAINT, "goal": style.YELLOW,
    "seen": style.SKY, "gap": style.BLUE,
}  # fmt: skip


def swarm_viewer(swarms: Sequence[SwarmFlight], title: str, statuses: Sequence[str]) -> str:
    """A page that needs no network: drawing code and flights are embedded, and its policy forbids any request.

    It opens with the first swarm. ``statuses``: name of each status code of the filter, in lower case with underscores.
    Raises ValueError for no swarms, or where the page would exceed :data:`LARGEST_PAGE`.
    """
    require_swarms(swarms)
    share = 0.9 * LARGEST_PAGE / len(swarms)
    data = {
        "swarms": [_swarm(swarm, share) for swarm in swarms],
        "statuses": [[name.replace("_", " "), COLOURS[name]] for name in statuses],
        "colours": LOOK,
    }
    page = render("swarm.html", title=title, data=data)
    size = len(page.encode())
    if size > LARGEST_PAGE:
        raise ValueError(f"swarm_viewer: {len(swarms)} swarms make {size / 1e6:.1f} MB; show fewer swarms")
    return page


def frame_steps(steps: int, drones: int, most_bytes: float) -> npt.NDArray[np.integer]:
    """Indices of the states shown of T + 1: evenly spaced, the last always included, in about ``most_bytes``."""
    most = max(2, min(MOST_FRAMES, int(most_bytes / (drones * BYTES_PER_STATE))))
    stride = -(-(steps + 1) // most)
    return np.unique(np.append(np.arange(0, steps + 1, stride), steps))


def _swarm(swarm: SwarmFlight, most_bytes: float) -> dict[str, object]:
    """Columns over the shown states. What belongs to a step is held at its first state; the last state repeats it."""
    shown = frame_steps(swarm.steps, swarm.drones, most_bytes)
    step = np.minimum(shown, swarm.steps - 1)
    low, high = swarm.position.reshape(-1, 3).min(0), swarm.position.reshape(-1, 3).max(0)
    size = np.maximum(high - low, 1e-6)
    levels = np.round((swarm.position[shown] - low) / size * LEVELS).astype("<u2")
    # Skipped steps must not hide a contact: a frame stands for all the steps up to the next one.
    gap = np.minimum.reduceat(swarm.least_gap, step)
    return {
        "name": swarm.name,
        "cell": swarm.cell,
        "drones": swarm.drones,
        "radius": swarm.drone_radius,
        "sight": swarm.sight,
        "perceived": swarm.perceived,
        "noise": round(swarm.noise, 4),
        "filtered": swarm.filtered,
        "time": numbers(swarm.times[shown]),
        "low": numbers(low, 6),
        "size": numbers(size, 6),
        "position": base64.b64encode(levels.tobytes()).decode(),
        "status": base64.b64encode(swarm.status[step].astype(np.uint8).tobytes()).decode(),
        "gap": numbers(gap),
        "arrived": numbers(swarm.arrived[shown]),
        "settled": _settled(swarm.at_goal, shown).tolist(),
        "contact": [int(np.searchsorted(shown, at, "right")) - 1 if at >= 0 else -1 for at in swarm.contact.tolist()],
        "goal": [numbers(place, 3) for place in swarm.goal],
        **_obstacles(swarm),
    }


def _settled(at_goal: npt.NDArray[np.bool_], shown: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
    """Frame from which on each drone stays at its goal, (n,); -1: it does not."""
    stays = np.flip(np.logical_and.accumulate(np.flip(at_goal, 0), axis=0), 0)
    return np.where(stays[-1], np.searchsorted(shown, np.argmax(stays, axis=0)), -1)


def _obstacles(swarm: SwarmFlight) -> dict[str, object]:
    """``balls`` as [x, y, z, radius, velocity], ``trunks`` and ``faces`` of the rest, and the ``ground`` [m, m/s]."""
    capsules, within = swarm.obstacles.capsules, np.concatenate([swarm.position.reshape(-1, 3), swarm.goal])
    low, high = within.min(0) - 1.0, within.max(0) + 1.0
    velocity = capsules.velocity[capsules.active]
    rows = list(zip(capsules.table(), velocity, strict=True))
    solids = (
        solid if solid.moves else polyhedra.cut_to(solid, low, high) for solid in polyhedra.polyhedra(swarm.obstacles)
    )
    ground = swarm.obstacles.ground
    return {
        "balls": [[*numbers(row[:4]), numbers(speed)] for row, speed in rows if row[4] == 0.0],
        "trunks": [_trunk(row, low[2], high[2]) for row, _ in rows if row[4] > 0.0],
        "solids": [
            {"faces": [numbers(face.ravel(), 3) for face in solid.faces], "velocity": numbers(solid.velocity, 3)}
            for solid in solids
            if solid is not None
        ],
        "ground": ground if ground is not None and ground > low[2] - 2.0 else None,
    }


def _trunk(row: Array, low: float, high: float) -> list[float | None]:
    """An upright capsule, cut to the heights shown: x, y, both ends, radius [m]."""
    ends = np.clip(row[2] + np.array([-row[4], row[4]]), low, high)
    return [*numbers(row[:2]), *numbers(ends), *numbers(row[3:4])]
