"""Worlds of every shape, with their signed distances in float64 NumPy and points sampled on their surfaces."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from drone_cbf.physics.obstacles import Obstacles, obstacles_of
from drone_cbf.physics.solids.boxes import Boxes
from drone_cbf.physics.solids.capsules import Capsules
from drone_cbf.physics.solids.cylinders import Cylinders
from drone_cbf.physics.solids.ground import Ground

SHAPES = ("capsules", "boxes", "cylinders", "ground")
Distance = Callable[[np.ndarray], np.ndarray]


def turned(rng: np.random.Generator, count: int) -> np.ndarray:
    """Random rotations, (count, 3, 3)."""
    rotation = np.linalg.qr(rng.normal(size=(count, 3, 3)))[0]
    rotation[:, :, 0] *= np.linalg.det(rotation)[:, None]
    return rotation


def mixed(seed: int = 0, each: int = 4, spread: float = 3.0) -> Obstacles:
    """``each`` moving solids of every shape in a cube of +-``spread`` [m], and ground below half of it."""
    rng = np.random.default_rng(seed)

    def rows(low, high, *shape):
        return jnp.asarray(rng.uniform(low, high, (each, *shape)), jnp.float32)

    there = {"centre": lambda: rows(-spread, spread, 3), "velocity": lambda: rows(-2.0, 2.0, 3)}
    active = jnp.ones(each, bool)
    return obstacles_of(
        Capsules(
            **{name: draw() for name, draw in there.items()},
            radius=rows(0.2, 0.8),
            half_height=jnp.where(jnp.arange(each) % 2 == 0, 0.0, rows(0.3, 1.5)),
            active=active,
        ),
        Boxes(
            **{name: draw() for name, draw in there.items()},
            half_size=rows(0.2, 1.2, 3),
            rotation=jnp.asarray(turned(rng, each), jnp.float32),
            active=active,
        ),
        Cylinders(
            **{name: draw() for name, draw in there.items()},
            heading=rows(-3.0, 3.0),
            half_length=rows(0.2, 2.0),
            radius=rows(0.2, 0.8),
            active=active,
        ),
        Ground(height=jnp.float32([-0.5 * spread]), active=jnp.ones(1, bool)),
    )


def only(shape: str, obstacles: Obstacles) -> Obstacles:
    """The solids of one shape."""
    return obstacles_of(**{shape: getattr(obstacles, shape)})


def rows_of(solids) -> list[dict[str, np.ndarray]]:
    """One dictionary of float64 values for each solid."""
    fields = {name: np.asarray(value) for name, value in vars(solids).items()}
    return [{name: np.float64(value[row]) for name, value in fields.items()} for row in range(len(fields["active"]))]


def distances_of(obstacles: Obstacles, time: float = 0.0) -> list[Distance]:
    """Of each solid, the signed distance [m] of points (..., 3) at ``time`` [s]."""
    makers = (_capsule, _box, _cylinder, _ground)
    found = []
    for maker, shape in zip(makers, SHAPES, strict=True):
        for row in rows_of(getattr(obstacles, shape)):
            if "centre" in row:
                row["centre"] = row["centre"] + time * row["velocity"]
            found.append(maker(row))
    return found


def _capsule(row) -> Distance:
    ends = row["centre"] + np.outer([-1.0, 1.0], [0.0, 0.0, row["half_height"]])

    def distance(points):
        way = ends[1] - ends[0]
        fraction = np.clip((points - ends[0]) @ way / max(way @ way, 1e-300), 0.0, 1.0)
        return np.linalg.norm(points - ends[0] - fraction[..., None] * way, axis=-1) - row["radius"]

    return distance


def _box(row) -> Distance:
    def distance(points):
        beyond = np.abs((points - row["centre"]) @ row["rotation"]) - row["half_size"]
        return np.linalg.norm(np.maximum(beyond, 0.0), axis=-1) + np.minimum(beyond.max(-1), 0.0)

    return distance


def _cylinder(row) -> Distance:
    axis = np.array([np.cos(row["heading"]), np.sin(row["heading"]), 0.0])

    def distance(points):
        offset = points - row["centre"]
        across = np.linalg.norm(np.cross(offset, axis), axis=-1) - row["radius"]
        along = np.abs(offset @ axis) - row["half_length"]
        outside = np.hypot(np.maximum(across, 0.0), np.maximum(along, 0.0))
        return outside + np.minimum(np.maximum(across, along), 0.0)

    return distance


def _ground(row) -> Distance:
    return lambda points: points[..., 2] - row["height"]


def surface_of(shape: str, row: dict[str, np.ndarray], count: int = 120) -> np.ndarray:
    """A lattice of points on one box or cylinder, (n, 3); neighbours are 1 / ``count`` of a side or a turn apart."""
    line = np.linspace(-1.0, 1.0, count)
    first, second = (grid.ravel() for grid in np.meshgrid(line, line))
    flat = np.stack([first, second], -1)
    sides = np.repeat([-1.0, 1.0], len(flat))
    if shape == "boxes":
        both = np.concatenate([flat, flat])
        faces = np.concatenate([np.insert(both, axis, sides, axis=1) for axis in range(3)])
        return row["centre"] + (faces * row["half_size"]) @ row["rotation"].T
    angle = np.pi * first
    ring = row["radius"] * np.stack([0.0 * angle, np.cos(angle), np.sin(angle)], -1)
    wall = ring + row["half_length"] * second[:, None] * [1.0, 0.0, 0.0]
    disc = 0.5 * (1.0 + second[:, None]) * ring
    ends = np.concatenate([disc, disc]) + row["half_length"] * sides[:, None] * [1.0, 0.0, 0.0]
    cosine, sine = np.cos(row["heading"]), np.sin(row["heading"])
    rotation = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    return row["centre"] + np.concatenate([wall, ends]) @ rotation.T
