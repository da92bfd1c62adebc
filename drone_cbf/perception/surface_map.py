"""The estimate over time of the surfaces: each is re-observed at every step with independent noise, and stands still.

The nearest point of a surface slides along it as the drone passes, so the points themselves cannot be averaged. What
stays is the surface: near the drone it is taken as a ball or as an upright cylinder of unknown centre ``c`` and
radius ``R``, whose nearest point to a place ``q`` is

    y(q) = a + R u,     u = (q - a) / |q - a|,     a = c (ball)  or  (c_x, c_y, q_z) (upright cylinder).

An extended Kalman filter per surface and shape estimates (c, R); the shape that has explained the readings better is
believed. The gain is Kalman's: a new surface is believed as seen, a well-known one moves little. (Bar-Shalom, Li and
Kirubarajan, Estimation with Applications to Tracking and Navigation, 2001: 10.3 EKF, 11.6 multiple models.)
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from drone_cbf.arrays import Scalar, Vector, safe_norm, unit
from drone_cbf.config import SensorConfig
from drone_cbf.perception.sensors import Surfaces

SMALLEST_NOISE = 1e-3
"""A sensor is never believed beyond this [m]: below it the linearised filter and float32 would be overconfident."""
SMALLEST_RADIUS = 0.02
"""A fitted radius stays above this [m]."""
UPRIGHT = (0.0, 1.0)
"""The two shapes: ball, upright cylinder."""


@struct.dataclass
class SurfaceMap:
    """Belief about ``m`` surfaces as each of the shapes in ``UPRIGHT``, world frame. Row i is obstacle i."""

    fit: Float[Array, "2 m 4"]
    """Centre and radius (c_x, c_y, c_z, R) [m]."""
    covariance: Float[Array, "2 m 4 4"]
    """Of ``fit`` [m^2]."""
    misfit: Float[Array, "2 m"]
    """-2 log likelihood of the readings so far, up to a constant."""
    known: Bool[Array, "m"]
    """True once the surface has been seen."""


SurfaceUpdate = Callable[[SurfaceMap, Surfaces, Vector, Scalar], SurfaceMap]
"""(belief, reading, the place it was searched around [m], noise [m]) -> belief."""


def empty_map(surfaces: int) -> SurfaceMap:
    """Nothing seen yet."""
    return SurfaceMap(
        fit=jnp.zeros((2, surfaces, 4), jnp.float32),
        covariance=jnp.zeros((2, surfaces, 4, 4), jnp.float32),
        misfit=jnp.zeros((2, surfaces), jnp.float32),
        known=jnp.zeros(surfaces, bool),
    )


def nearest_point(fit: Float[Array, "4"], upright: Scalar, place: Vector) -> Vector:
    """y(q): the point of the fitted surface nearest to ``place`` [m]."""
    axis = _axis(fit, upright, place)
    return axis + fit[3] * unit(place - axis)


def _axis(fit: Float[Array, "4"], upright: Scalar, place: Vector) -> Vector:
    vertical = jnp.array([0.0, 0.0, 1.0], fit.dtype) * upright
    return fit[:3] + vertical * (place - fit[:3])


def make_surface_update(config: SensorConfig, time_step: float) -> SurfaceUpdate:
    """Function that brings a reading into the belief.

    No gradient passes, so a flight's gradient leaves out how another flight would have fitted the surfaces. Measured
    over ten steps, a radius that is not yet known costs 0.3 % of it, and a ball at the drone's very height, which until
    one of them moves may as well be an upright cylinder, 1.4 %.
    """
    shapes = jnp.asarray(UPRIGHT)
    drift = (config.surface_drift**2 * time_step) * jnp.eye(4)

    def update(belief: SurfaceMap, reading: Surfaces, place: Vector, noise: Scalar) -> SurfaceMap:
        belief, reading, place = jax.lax.stop_gradient((belief, reading, place))
        variance = jnp.maximum(noise, SMALLEST_NOISE) ** 2

        def one(fit, covariance, upright, point, velocity, known, visible):
            moved = fit.at[:3].add(velocity * time_step)
            corrected = _correct(moved, covariance + drift, upright, point, place, variance)
            started = _start(point, place, upright, variance, config)
            chosen = jax.tree.map(lambda old, new: jnp.where(known, old, new), corrected, started)
            return jax.tree.map(lambda new, old: jnp.where(visible, new, old), chosen, (moved, covariance, 0.0))

        per_surface = jax.vmap(one, in_axes=(0, 0, None, 0, 0, 0, 0))
        fit, covariance, surprise = jax.vmap(per_surface, in_axes=(0, 0, 0, None, None, None, None))(
            belief.fit, belief.covariance, shapes, reading.points, reading.velocity, belief.known, reading.visible
        )
        return SurfaceMap(
            fit=fit, covariance=covariance, misfit=belief.misfit + surprise, known=belief.known | reading.visible
        )

    return update


def _start(
    point: Vector, place: Vector, upright: Scalar, variance: Scalar, config: SensorConfig
) -> tuple[Float[Array, "4"], Float[Array, "4 4"], Scalar]:
    """Belief after the first reading: the expected radius, behind the point as seen."""
    radius, spread = config.surface_radius, config.surface_radius_spread
    away = (place - point) * (1.0 - upright * jnp.array([0.0, 0.0, 1.0]))
    distance, u = safe_norm(away, 1e-2), unit(away, 1e-2)
    fit = jnp.append(point - radius * u, radius)
    along = jnp.outer(u, u)
    # An error of the point across the line of sight turns the direction, and so moves the centre more.
    lever = (distance + radius) / distance
    centre = variance * (along + lever**2 * (jnp.eye(3) - along)) + spread**2 * along
    covariance = jnp.block([[centre, -(spread**2) * u[:, None]], [-(spread**2) * u[None, :], jnp.full((1, 1), spread**2)]])
    return fit, covariance, jnp.float32(0.0)


def _slopes(fit: Float[Array, "4"], upright: Scalar, place: Vector) -> Float[Array, "3 4"]:
    """Derivative of y(q) with respect to (c, R)."""
    away = place - _axis(fit, upright, place)
    u = unit(away)
    turning = fit[3] / jnp.maximum(safe_norm(away), SMALLEST_RADIUS)
    by_centre = (1.0 - turning) * jnp.eye(3) + turning * u[:, None] * u[None, :]
    return jnp.concatenate([by_centre.at[:, 2].multiply(1.0 - upright), u[:, None]], 1)


def _correct(
    fit: Float[Array, "4"],
    covariance: Float[Array, "4 4"],
    upright: Scalar,
    point: Vector,
    place: Vector,
    variance: Scalar,
) -> tuple[Float[Array, "4"], Float[Array, "4 4"], Scalar]:
    """One EKF step, coordinate by coordinate: the reading's errors are independent, so no matrix is inverted."""
    slopes = _slopes(fit, upright, place)
    surprise = point - nearest_point(fit, upright, place)
    change, misfit = jnp.zeros_like(fit), jnp.float32(0.0)
    for coordinate in range(3):
        slope = slopes[coordinate]
        spread = jnp.sum(covariance * slope, -1)
        total = jnp.sum(slope * spread) + variance
        left = surprise[coordinate] - jnp.sum(slope * change)
        gain = spread / total
        change = change + gain * left
        covariance = covariance - gain[:, None] * spread[None, :]
        misfit = misfit + left**2 / total + jnp.log(total)
    fit = fit + change
    return fit.at[3].set(jnp.maximum(fit[3], SMALLEST_RADIUS)), covariance, misfit


def believed_surfaces(belief: SurfaceMap, reading: Surfaces, place: Vector, own_spread: Scalar) -> Surfaces:
    """The reading with its points replaced by those of the believed surfaces nearest to ``place`` [m].

    Their spread is that of the fit and of the drone's own position, ``own_spread`` [m], together. Gradients pass
    through ``place`` alone: how the nearest point slides along the surface.
    """
    belief = jax.lax.stop_gradient(belief)
    better = jnp.argmin(belief.misfit, axis=0)
    fit = jnp.take_along_axis(belief.fit, better[None, :, None], axis=0)[0]
    covariance = jnp.take_along_axis(belief.covariance, better[None, :, None, None], axis=0)[0]
    upright = jnp.asarray(UPRIGHT)[better]
    points = jax.vmap(nearest_point, in_axes=(0, 0, None))(fit, upright, place)
    slopes = jax.vmap(_slopes, in_axes=(0, 0, None))(fit, upright, jax.lax.stop_gradient(place))
    # Mean over the axes: trace(S P S') / 3.
    moved = jnp.sum(slopes[:, :, :, None] * covariance[:, None, :, :], 2)
    variance = jnp.sum(moved * slopes, (1, 2)) / 3.0
    return reading.replace(
        points=jnp.where(reading.visible[:, None], points, reading.points),
        spread=jnp.sqrt(jnp.maximum(variance, 0.0) + own_spread**2),
    )


def believed_as_read(reading: Surfaces, noise: Scalar, own_spread: Scalar) -> Surfaces:
    """The reading itself, with the spread of a sensor's ``noise`` and of the drone's own position [m] together."""
    spread = jnp.sqrt(noise**2 + own_spread**2)
    return reading.replace(spread=jnp.broadcast_to(spread, reading.visible.shape))
