"""States and solids at their limits: on surfaces, at the sensing radius, tied, coincident, at rest, at 1e6 m/s."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from drone_cbf.physics.obstacles import Obstacles
from drone_cbf.physics.solids.boxes import Boxes
from drone_cbf.physics.solids.capsules import Capsules
from drone_cbf.physics.solids.cylinders import Cylinders
from drone_cbf.physics.solids.ground import Ground

LENGTHS = np.array([0.0, 1e-40, 1e-20, 1e-7, 1e-3, 0.02, 0.12, 0.27, 1.0, 4.999999, 5.0, 5.000001, 1e3])
"""Of offsets [m]: none, denormal, what vanishes beside one, below the tie of points, at the hull, at the sensing radius
and far beyond."""
SPEEDS = np.array([0.0, 1e-40, 1e-20, 1e-7, 0.3, 3.0, 30.0, 1e3, 1e6])  # [m/s]
SIZES = np.array([0.0, 1e-40, 1e-7, 1e-3, 0.1, 1.0, 1e3])  # Of solids [m]
SLOTS = 3  # Of each shape


def directions(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Unit vectors, a third along an axis and a third diagonal, where coordinates are tied."""
    kinds = rng.integers(0, 3, (*shape, 1))
    along = np.eye(3)[rng.integers(0, 3, shape)] * rng.choice([-1.0, 1.0], (*shape, 1))
    diagonal = rng.choice([-1.0, 1.0], (*shape, 3))
    some = np.where(kinds == 0, rng.normal(size=(*shape, 3)), np.where(kinds == 1, along, diagonal))
    return some / np.linalg.norm(some, axis=-1, keepdims=True)


def _some(rng: np.random.Generator, values: np.ndarray, *shape: int) -> np.ndarray:
    """Half of ``values``, half between them."""
    between = 10.0 ** rng.uniform(-8.0, np.log10(values.max()), shape)
    return np.where(rng.random(shape) < 0.5, rng.choice(values, shape), between)


def vectors(rng: np.random.Generator, sizes: np.ndarray, *shape: int) -> np.ndarray:
    return (_some(rng, sizes, *shape)[..., None] * directions(rng, *shape)).astype(np.float32)


def states(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions [m] and velocities [m/s], (n, 3) each."""
    rng = np.random.default_rng(seed)
    return vectors(rng, np.array([0.0, 1.0]), n), vectors(rng, SPEEDS, n)


def scattered_points(n: int, count: int, position: np.ndarray, seed: int) -> np.ndarray:
    """Points around each position, (n, count, 3) float32: the last third repeats others, the second third is tied."""
    rng = np.random.default_rng(seed)
    offset = vectors(rng, LENGTHS, n, count)
    third = count // 3
    lengths = np.linalg.norm(offset[:, :1].astype(np.float64), axis=-1, keepdims=True)
    offset[:, third : 2 * third] = lengths * directions(rng, n, third)
    offset[:, 2 * third : 3 * third] = offset[:, :third]
    return (position[:, None] + offset).astype(np.float32)


def solids(n: int, position: np.ndarray, seed: int) -> Obstacles:
    """Solids of every shape near each position: of no length, no radius, no thickness, and far too large."""
    rng = np.random.default_rng(seed)

    def centre() -> np.ndarray:
        place = position[:, None] + vectors(rng, LENGTHS, n, SLOTS)
        place[:, -1] = place[:, 0]  # two in one place
        return np.float32(place)

    def size(*shape: int) -> np.ndarray:
        return np.float32(_some(rng, SIZES, n, SLOTS, *shape))

    turned = np.linalg.qr(rng.normal(size=(n, SLOTS, 3, 3)))[0]
    turned = np.where(rng.random((n, SLOTS, 1, 1)) < 0.5, turned, np.eye(3))
    velocity, used = vectors(rng, np.array([0.0, 3.0]), n, SLOTS), rng.random((4, n, SLOTS)) < 0.7
    return jax.tree.map(
        jnp.asarray,
        Obstacles(
            capsules=Capsules(centre=centre(), radius=size(), half_height=size(), velocity=velocity, active=used[0]),
            boxes=Boxes(
                centre=centre(), half_size=size(3), rotation=np.float32(turned), velocity=velocity, active=used[1]
            ),
            cylinders=Cylinders(
                centre=centre(),
                heading=np.float32(rng.uniform(-4.0, 4.0, (n, SLOTS))),
                half_length=size(),
                radius=size(),
                velocity=velocity,
                active=used[2],
            ),
            ground=Ground(height=np.float32(position[:, 2:] - _some(rng, LENGTHS, n, 1)), active=used[3][:, :1]),
        ),
    )
