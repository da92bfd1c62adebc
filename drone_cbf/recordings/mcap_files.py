"""A flight as an MCAP file with Foxglove's schemas, for Foxglove and every other reader of MCAP.

Frames: ``world`` (z up), ``drone`` (turned as the drone is where its model has an attitude, else parallel to
``world``), and ``camera``, of which no pose is recorded. Times begin with zero. Topics:

| topic | schema | |
|---|---|---|
| ``/tf`` | FrameTransforms | the drone in the world |
| ``/odometry`` | Odometry | pose in the world; velocity and rates in the frame ``drone`` |
| ``/scene`` | SceneUpdate | obstacles, goal, path; the drone's hull, and arms and nose of one that turns |
| ``/points`` | PointCloud | what a range sensor hit, if recorded |
| ``/depth`` | RawImage | depth [m], 32FC1, NaN where nothing was seen, if recorded |
| ``/filter`` | JSON | command, nominal command, h, slack, status, clearance |
| ``/log`` | Log | where the filter changed its status; how the flight ended |
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import foxglove
import numpy as np
from foxglove import channels
from foxglove import messages as schemas
from scipy.spatial.transform import Rotation

from drone_cbf.recordings.solids import Solid, solids_of
from drone_cbf.reporting.fields import Array
from drone_cbf.reporting.records import Flight

WORLD, DRONE, CAMERA = "world", "drone", "camera"
Colour = tuple[float, float, float, float]
OBSTACLE, MOVING, GROUND = (0.60, 0.65, 0.69, 0.9), (0.50, 0.62, 0.75, 0.9), (0.93, 0.91, 0.86, 1.0)
GOAL, PATH, BODY = (0.0, 0.62, 0.45, 0.6), (0.0, 0.45, 0.70, 1.0), (0.84, 0.37, 0.0, 1.0)
HULL, ARMS = (0.84, 0.37, 0.0, 0.35), (0.2, 0.2, 0.2, 1.0)  # Of a drone that turns
LEVEL = np.array([0.0, 0.0, 0.0, 1.0])  # Quaternion (x, y, z, w) of no turn
GOAL_SIZE = 0.2  # Diameter of the ball that shows the goal [m]
LINE = 0.03  # Thickness of the path [m]
VECTOR = {"type": "array", "items": {"type": "number"}, "minItems": 3, "maxItems": 3}
MAYBE = {"type": ["number", "null"]}  # JSON has no NaN: null where nothing was evaluated
FILTER_SCHEMA = {
    "title": "drone_cbf.Filter",
    "type": "object",
    "properties": {"command": VECTOR, "nominal": VECTOR}
    | dict.fromkeys(("barrier", "analytic_barrier", "clearance", "slack"), MAYBE)
    | {"status": {"type": "string"}},
}


def write_mcap(flight: Flight, path: Path, statuses: Sequence[str]) -> None:
    """Writes ``flight`` to ``path``, which is replaced. ``statuses``: the name of each status code."""
    context = foxglove.Context()
    with foxglove.open_mcap(path, allow_overwrite=True, context=context):
        log_transform = channels.FrameTransformsChannel("/tf", context=context).log
        log_odometry = channels.OdometryChannel("/odometry", context=context).log
        scene = channels.SceneUpdateChannel("/scene", context=context)
        filtering = foxglove.Channel("/filter", schema=FILTER_SCHEMA, message_encoding="json", context=context)
        solids = solids_of(flight)
        scene.log(schemas.SceneUpdate(entities=list(_still(flight, solids))), log_time=0)
        for step, seconds in enumerate(flight.times):
            now, stamp = _nanoseconds(seconds), _stamp(seconds)
            log_transform(_transform(flight, step, stamp), log_time=now)
            log_odometry(_odometry(flight, step, stamp), log_time=now)
            moving = [_entity(solid, seconds) for solid in solids if solid.moves]
            if moving:
                scene.log(schemas.SceneUpdate(entities=moving), log_time=now)
            if step < flight.steps:
                filtering.log(_filtered(flight, step, statuses), log_time=now)
        _log_sensor(flight, context)
        _log_events(flight, channels.LogChannel("/log", context=context).log, statuses)


def _log_sensor(flight: Flight, context: foxglove.Context) -> None:
    if flight.seen is not None:
        points = channels.PointCloudChannel("/points", context=context)
        for step in range(flight.steps):
            points.log(_cloud(flight.hits(step), flight.times[step]), log_time=_nanoseconds(flight.times[step]))
    if flight.depth is not None:
        images = channels.RawImageChannel("/depth", context=context)
        for step in range(flight.steps):
            images.log(_image(flight.depth[step], flight.times[step]), log_time=_nanoseconds(flight.times[step]))


def _log_events(flight: Flight, log: Callable[..., None], statuses: Sequence[str]) -> None:
    changed = np.flatnonzero(np.diff(flight.status, prepend=-1))
    told = [(flight.times[step], f"filter: {statuses[flight.status[step]]}") for step in changed]
    told.append((flight.times[-1], f"{flight.name}: {flight.outcome}, least clearance {flight.least_clearance:.3f} m"))
    for seconds, text in told:
        level = schemas.LogLevel.Error if flight.collided and seconds == flight.times[-1] else schemas.LogLevel.Info
        record = schemas.Log(timestamp=_stamp(seconds), level=level, message=text, name="drone_cbf")
        log(record, log_time=_nanoseconds(seconds))


def _still(flight: Flight, solids: Sequence[Solid]) -> Iterator[schemas.SceneEntity]:
    """What is logged once: obstacles at rest, goal, path, and the drone, which the frame ``drone`` carries."""
    yield from (_entity(solid, 0.0) for solid in solids if not solid.moves)
    line = schemas.LinePrimitive(thickness=LINE, color=_colour(PATH), points=[_point(p) for p in flight.position])
    yield schemas.SceneEntity(timestamp=_stamp(0.0), frame_id=WORLD, id="path", lines=[line])
    yield _ball("goal", WORLD, flight.goal, GOAL_SIZE, GOAL)
    yield _ball("drone", DRONE, np.zeros(3), 2.0 * flight.drone_radius, BODY if flight.attitude is None else HULL)
    if flight.attitude is not None:
        yield _body(flight.drone_radius)


def _body(radius: float) -> schemas.SceneEntity:
    """Four arms in the plane of the rotors, and an arrow ahead, in the frame of the drone."""
    arm = schemas.Vector3(x=2.0 * radius, y=0.1 * radius, z=0.1 * radius)
    turns = Rotation.from_euler("z", [[45.0], [135.0]], degrees=True).as_quat()
    arms = [schemas.CubePrimitive(pose=_pose(np.zeros(3), turn), size=arm, color=_colour(ARMS)) for turn in turns]
    thick = {"shaft_diameter": 0.1 * radius, "head_diameter": 0.3 * radius}
    ahead = schemas.ArrowPrimitive(
        pose=_pose(np.zeros(3)), shaft_length=radius, head_length=0.4 * radius, color=_colour(BODY), **thick
    )
    return schemas.SceneEntity(
        timestamp=_stamp(0.0), frame_id=DRONE, id="body", frame_locked=True, cubes=arms, arrows=[ahead]
    )


def _ball(name: str, frame: str, centre: Array, width: float, colour: Colour) -> schemas.SceneEntity:
    size = schemas.Vector3(x=width, y=width, z=width)
    ball = schemas.SpherePrimitive(pose=_pose(centre), size=size, color=_colour(colour))
    moves_along = frame == DRONE
    return schemas.SceneEntity(timestamp=_stamp(0.0), frame_id=frame, id=name, frame_locked=moves_along, spheres=[ball])


def _entity(solid: Solid, seconds: float) -> schemas.SceneEntity:
    """A capsule is a cylinder with a ball at each end, which Foxglove's schemas know."""
    centre = solid.centre + seconds * solid.velocity
    colour = _colour(GROUND if solid.kind == "ground" else MOVING if solid.moves else OBSTACLE)
    parts: dict[str, Any] = {"cubes": [], "cylinders": [], "spheres": []}
    if solid.kind in ("box", "ground"):
        cube = schemas.CubePrimitive(pose=_pose(centre, solid.orientation), size=_vector(solid.size), color=colour)
        parts["cubes"].append(cube)
    else:
        rounded = solid.kind == "capsule"
        length = solid.size[2] - (solid.size[0] if rounded else 0.0)
        size = schemas.Vector3(x=solid.size[0], y=solid.size[1], z=length)
        if length > 0.0:
            pose = _pose(centre, solid.orientation)
            parts["cylinders"].append(
                schemas.CylinderPrimitive(pose=pose, size=size, bottom_scale=1.0, top_scale=1.0, color=colour)
            )
        if rounded:
            along = Rotation.from_quat(solid.orientation).apply([0.0, 0.0, length / 2.0])
            ball = schemas.Vector3(x=solid.size[0], y=solid.size[0], z=solid.size[0])
            ends = [centre - along, centre + along][: 1 if length == 0.0 else 2]
            parts["spheres"] += [schemas.SpherePrimitive(pose=_pose(end), size=ball, color=colour) for end in ends]
    return schemas.SceneEntity(timestamp=_stamp(seconds), frame_id=WORLD, id=solid.name, **parts)


def _transform(flight: Flight, step: int, stamp: schemas.Timestamp) -> schemas.FrameTransforms:
    place, turn = _vector(flight.position[step]), _turn(_attitude(flight, step))
    one = schemas.FrameTransform(
        timestamp=stamp, parent_frame_id=WORLD, child_frame_id=DRONE, translation=place, rotation=turn
    )
    return schemas.FrameTransforms(transforms=[one])


def _odometry(flight: Flight, step: int, stamp: schemas.Timestamp) -> schemas.Odometry:
    turn = _attitude(flight, step)
    return schemas.Odometry(
        timestamp=stamp,
        frame_id=WORLD,
        body_frame_id=DRONE,
        pose=_pose(flight.position[step], turn),
        linear_velocity=_vector(Rotation.from_quat(turn).inv().apply(flight.velocity[step])),
        angular_velocity=None if flight.rates is None else _vector(flight.rates[step]),
    )


def _attitude(flight: Flight, step: int) -> Array:
    """Quaternion (x, y, z, w) of the frame ``drone`` in ``world``."""
    return LEVEL if flight.attitude is None else flight.attitude[step][[1, 2, 3, 0]]


def _filtered(flight: Flight, step: int, statuses: Sequence[str]) -> str:
    values = {name: getattr(flight, name)[step] for name in ("barrier", "analytic_barrier", "clearance", "slack")}
    return json.dumps(
        {"command": flight.command[step].tolist(), "nominal": flight.nominal[step].tolist()}
        | {name: float(value) if np.isfinite(value) else None for name, value in values.items()}
        | {"status": statuses[flight.status[step]]},
        allow_nan=False,
    )


def _cloud(points: Array, seconds: float) -> schemas.PointCloud:
    kind = schemas.PackedElementFieldNumericType.Float32
    fields = [schemas.PackedElementField(name=name, offset=4 * axis, type=kind) for axis, name in enumerate("xyz")]
    data = np.ascontiguousarray(points, dtype="<f4").tobytes()
    return schemas.PointCloud(
        timestamp=_stamp(seconds), frame_id=WORLD, pose=_pose(np.zeros(3)), point_stride=12, fields=fields, data=data
    )


def _image(depth: Array, seconds: float) -> schemas.RawImage:
    height, width = depth.shape
    data = np.where(np.isfinite(depth), depth, np.nan).astype("<f4").tobytes()
    size = {"width": width, "height": height, "step": 4 * width}
    return schemas.RawImage(timestamp=_stamp(seconds), frame_id=CAMERA, encoding="32FC1", data=data, **size)


def _nanoseconds(seconds: float) -> int:
    return round(1e9 * float(seconds))


def _stamp(seconds: float) -> schemas.Timestamp:
    whole, rest = divmod(_nanoseconds(seconds), 1_000_000_000)
    return schemas.Timestamp(sec=whole, nsec=rest)


def _vector(values: Array) -> schemas.Vector3:
    return schemas.Vector3(**dict(zip("xyz", map(float, values), strict=True)))


def _point(values: Array) -> schemas.Point3:
    return schemas.Point3(**dict(zip("xyz", map(float, values), strict=True)))


def _turn(quaternion: Array) -> schemas.Quaternion:
    return schemas.Quaternion(**dict(zip("xyzw", map(float, quaternion), strict=True)))


def _pose(place: Array, quaternion: Array = LEVEL) -> schemas.Pose:
    return schemas.Pose(position=_vector(place), orientation=_turn(quaternion))


def _colour(colour: Colour) -> schemas.Color:
    return schemas.Color(**dict(zip("rgba", colour, strict=True)))
