"""A scene of one's own, described in plain numbers. See docs/api.md."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from drone_cbf.config import SystemConfig
from drone_cbf.errors import ConfigError
from drone_cbf.physics.obstacles import obstacles_of
from drone_cbf.physics.solids.boxes import Boxes
from drone_cbf.physics.solids.capsules import Capsules
from drone_cbf.physics.solids.cylinders import Cylinders
from drone_cbf.physics.solids.ground import Ground
from drone_cbf.scenes.scene import Scene

TURNED = 1e-3  # Largest deviation of a rotation's axes from unit length and right angles


def make_scene(
    system: SystemConfig,
    *,
    start: ArrayLike,
    goal: ArrayLike,
    centre: ArrayLike = (),
    radius: ArrayLike | None = None,
    half_height: ArrayLike = 0.0,
    velocity: ArrayLike = 0.0,
    boxes: Mapping[str, ArrayLike] | None = None,
    cylinders: Mapping[str, ArrayLike] | None = None,
    ground: float | None = None,
    wind: ArrayLike = 0.0,
) -> Scene:
    """A scene in the world frame, z up, SI units: spheres and capsules in ``system.scene.obstacles`` slots, and others.

    Scenes that are flown together need the same number of each other shape. Values broadcast to a row for each centre.

    Args:
        start, goal: (3,) where the drone takes off, at rest, and where it should hover [m].
        centre, radius: (n, 3) centres at time zero, and (n,) radii [m].
        half_height: (n,) [m]; 0 is a sphere, otherwise a vertical capsule (a pole or a tree trunk).
        velocity: (n, 3); constant velocity of the obstacles [m/s].
        boxes: ``centre`` (b, 3), ``half_size`` (b, 3) [m]; optionally ``velocity`` (b, 3) [m/s], and ``yaw`` (b,) about
            z [rad] or ``rotation`` (b, 3, 3), whose columns are the box's axes.
        cylinders: likewise ``centre``, ``radius`` and ``half_length`` (c,), ``heading`` (c,) of the axis from x to y.
        ground: height below which all is solid [m]; None for none.
        wind: (3,); constant wind [m/s].

    Raises:
        ConfigError: too many obstacles for the slots; or a value is missing, unknown, not finite, of the wrong shape.
    """
    balls = {"centre": centre, "half_height": half_height, "velocity": velocity}
    if radius is not None or not np.size(centre):
        balls["radius"] = 1.0 if radius is None else radius
    points = {"start": start, "goal": goal, "wind": wind, "start_velocity": 0.0, "gust": 0.0}
    arrays: dict[str, Any] = {name: jnp.asarray(_array(name, value, (3,))) for name, value in points.items()}
    shapes = _capsules(system.scene.obstacles, balls), _boxes(boxes), _cylinders(cylinders), _ground(ground)
    return Scene(obstacles=obstacles_of(*shapes), **arrays)


def _capsules(slots: int, given: Mapping[str, ArrayLike]) -> Capsules:
    """Capsules in ``slots`` slots, of which the last ones are not used."""
    rows = {"centre": ((3,), None), "radius": ((), None), "half_height": ((), 0.0), "velocity": ((3,), 0.0)}
    shapes = _rows("", given, rows)
    count = len(shapes["centre"])
    if count > slots:
        raise ConfigError(f"make_scene: {count} obstacles, but scene.obstacles = {slots}; raise scene.obstacles")
    full = {
        name: jnp.asarray(np.concatenate([rows, np.ones((slots - count, *rows.shape[1:]), np.float32)]))
        for name, rows in shapes.items()
    }
    return Capsules(active=jnp.arange(slots) < count, **full)


def _boxes(given: Mapping[str, ArrayLike] | None) -> Boxes | None:
    if given is None:
        return None
    if "yaw" in given and "rotation" in given:
        raise ConfigError("make_scene: boxes has both yaw and rotation; give one of them")
    rows = {
        "centre": ((3,), None),
        "half_size": ((3,), None),
        "yaw": ((), 0.0),
        "rotation": ((3, 3), np.eye(3)),
        "velocity": ((3,), 0.0),
    }
    shapes = _rows("boxes.", given, rows)
    _positive("boxes.half_size", shapes["half_size"])
    yaw, rotation = shapes.pop("yaw"), shapes["rotation"]
    if np.abs(np.swapaxes(rotation, 1, 2) @ rotation - np.eye(3)).max(initial=0.0) > TURNED:
        raise ConfigError("make_scene: boxes.rotation holds columns that are not orthogonal unit vectors; correct it")
    if "yaw" in given:
        shapes["rotation"] = np.zeros_like(rotation)
        shapes["rotation"][:, 2, 2] = 1.0
        shapes["rotation"][:, 0, 0] = shapes["rotation"][:, 1, 1] = np.cos(yaw)
        shapes["rotation"][:, 1, 0] = np.sin(yaw)
        shapes["rotation"][:, 0, 1] = -np.sin(yaw)
    fields = {name: jnp.asarray(values) for name, values in shapes.items()}
    return Boxes(active=jnp.ones(len(yaw), bool), **fields)


def _cylinders(given: Mapping[str, ArrayLike] | None) -> Cylinders | None:
    if given is None:
        return None
    rows = {
        "centre": ((3,), None),
        "radius": ((), None),
        "half_length": ((), None),
        "heading": ((), 0.0),
        "velocity": ((3,), 0.0),
    }
    shapes = _rows("cylinders.", given, rows)
    _positive("cylinders.radius", shapes["radius"])
    _positive("cylinders.half_length", shapes["half_length"])
    fields = {name: jnp.asarray(values) for name, values in shapes.items()}
    return Cylinders(active=jnp.ones(len(shapes["centre"]), bool), **fields)


def _ground(height: float | None) -> Ground | None:
    return None if height is None else Ground(jnp.asarray(_array("ground", height, (1,))), jnp.ones(1, bool))


def _rows(
    owner: str, given: Mapping[str, ArrayLike], rows: Mapping[str, tuple[tuple[int, ...], ArrayLike | None]]
) -> dict[str, np.ndarray]:
    """Arrays with a row for each of ``given``'s centres; ``rows``: shape of a row, and default or None, by name."""
    for name in given:
        if name not in rows:
            raise ConfigError(f"make_scene: {owner}{name} is unknown; {owner[:-1]} takes {', '.join(rows)}")
    for name, (_, default) in rows.items():
        if default is None and name not in given:
            raise ConfigError(f"make_scene: {owner}{name} is missing; give it for every obstacle, or one value for all")
    centre = np.asarray(given["centre"])
    count = len(centre) if centre.ndim else 0
    if not centre.size:
        given = {**given, "centre": np.zeros((0, 3))}
    return {
        name: np.array(
            _array(owner + name, given[name] if name in given or default is None else default, (count, *shape))
        )
        for name, (shape, default) in rows.items()
    }


def _array(name: str, value: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.broadcast_to(np.asarray(value, np.float32), shape)
    except ValueError as error:
        raise ConfigError(
            f"make_scene: {name} has shape {np.shape(value)}, expected {shape} or a value that broadcasts to it"
        ) from error
    if not np.isfinite(array).all():
        raise ConfigError(f"make_scene: {name} holds a value that is not finite; correct it")
    return array


def _positive(name: str, values: np.ndarray) -> None:
    if values.min(initial=np.inf) <= 0.0:
        raise ConfigError(f"make_scene: {name} = {values.min():.6g} must be > 0 m; correct it")
