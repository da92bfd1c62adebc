"""Unit quaternions (w, x, y, z) that turn body axes into world axes."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from drone_cbf.arrays import Scalar, Vector, safe_norm

Quaternion = Float[Array, "4"]
LEVEL = (1.0, 0.0, 0.0, 0.0)


def product(first: Quaternion, second: Quaternion) -> Quaternion:
    """Hamilton product: the rotation ``second``, then ``first``."""
    w, v, x, u = first[0], first[1:], second[0], second[1:]
    return jnp.concatenate([(w * x - jnp.dot(v, u))[None], w * u + x * v + jnp.cross(v, u)])


def normalised(quaternion: Quaternion) -> Quaternion:
    """The quaternion with length one."""
    return quaternion / safe_norm(quaternion)


def body_axes(attitude: Quaternion) -> Float[Array, "3 3"]:
    """Rotation matrix R of ``attitude``: its columns are the body's axes in the world."""
    w, x, y, z = attitude
    return jnp.array(
        [
            [1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)],
            [2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x)],
            [2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y)],
        ]
    )


def up_axis(attitude: Quaternion) -> Vector:
    """The body's upward axis in the world, along which rotors push."""
    w, x, y, z = attitude
    return jnp.stack([2.0 * (x * z + w * y), 2.0 * (y * z - w * x), 1.0 - 2.0 * (x * x + y * y)])


def to_body(attitude: Quaternion, vector: Vector) -> Vector:
    """``vector`` of the world in body axes."""
    return body_axes(attitude).T @ vector


def turned_by(attitude: Quaternion, angle: Vector) -> Quaternion:
    """``attitude`` after a rotation by the vector ``angle`` [rad] in body axes; exact for a constant rate."""
    half: Scalar = 0.5 * safe_norm(angle)
    turn = jnp.concatenate([jnp.cos(half)[None], 0.5 * angle * (jnp.sin(half) / half)])
    return normalised(product(attitude, turn))


def rate_of(attitude: Quaternion, rates: Vector) -> Quaternion:
    """dq/dt at body ``rates`` [rad/s]."""
    return 0.5 * product(attitude, jnp.concatenate([jnp.zeros(1, rates.dtype), rates]))
