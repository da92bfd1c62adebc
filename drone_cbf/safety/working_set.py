"""Constraints that a command meets with equality: axes held on a limit, and rows that are independent on the others.

Three numbers are determined by at most three of them, so all linear algebra is unrolled: of a batch of ``n`` problems
each entry of a vector is an array over the batch, and every operation is one on whole arrays.
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

Each = Float[Array, "n"]
Triple = tuple[Each, Each, Each]
Flags = tuple[Bool[Array, "n"], Bool[Array, "n"], Bool[Array, "n"]]
Indices = tuple[Int[Array, "n"], Int[Array, "n"], Int[Array, "n"]]


@struct.dataclass
class WorkingSet:
    """Up to three constraints; each has three slots for rows, of which unused ones are zero."""

    side: Triple  # -1 where an axis is held on its lower limit, 1 on its upper one, 0 where it is free
    row: Indices  # Which row is in a slot; -1 in an unused one
    normal: tuple[Triple, Triple, Triple]  # Of each slot
    offset: Triple
    cap: Triple

    @property
    def free(self) -> Flags:
        """Axes that are on no limit."""
        x, y, z = self.side
        return x == 0.0, y == 0.0, z == 0.0

    @property
    def held(self) -> Flags:
        """Axes that rest on a limit."""
        x, y, z = self.side
        return x != 0.0, y != 0.0, z != 0.0


@struct.dataclass
class Basis:
    """Factors of the rows of a working set on the free axes: ``normal_j = sum_i R_ij q_i`` with orthonormal ``q_i``."""

    directions: tuple[Triple, Triple, Triple]  # q; zero for an unused slot
    inverse: tuple[Triple, Triple, Triple]  # R^-1, upper triangular

    def coordinates(self, vector: Triple) -> Triple:
        """``q_i . vector``."""
        first, second, third = self.directions
        return dot(first, vector), dot(second, vector), dot(third, vector)

    def along(self, coordinates: Triple) -> Triple:
        """``sum_i coordinates_i q_i``."""
        return combined(coordinates, self.directions)

    def across(self, vector: Triple) -> Triple:
        """The part of a ``vector`` on the free axes that is orthogonal to all rows."""
        for _ in range(2):  # the second time removes what rounding left
            vector = added(vector, self.along(self.coordinates(vector)), -1.0)
        return vector

    def meeting(self, missing: Triple) -> Triple:
        """Coordinates of the least change of command that adds ``missing`` to the left side of each row."""
        i, (a, b, c) = self.inverse, missing
        return i[0][0] * a, i[0][1] * a + i[1][1] * b, i[0][2] * a + i[1][2] * b + i[2][2] * c

    def weights(self, coordinates: Triple) -> Triple:
        """Multiples of the rows whose sum has these ``coordinates``."""
        i, (a, b, c) = self.inverse, coordinates
        return i[0][0] * a + i[0][1] * b + i[0][2] * c, i[1][1] * b + i[1][2] * c, i[2][2] * c

    def norms_of_pseudo_inverse(self) -> Triple:
        """Squared length of the least change of command that adds one to the left side of each row alone."""
        first, second, third = self.inverse
        return dot(first, first), second[1] ** 2 + second[2] ** 2, third[2] ** 2


def basis_of(work: WorkingSet) -> Basis:
    """Gram-Schmidt, each vector twice, which keeps the directions orthogonal to rounding (Giraud et al. 2005)."""
    zero = jnp.zeros_like(work.offset[0])
    directions: list[Triple] = []
    factor: list[list[Each]] = []  # Columns of R above its diagonal
    inverse_lengths: list[Each] = []
    for normal in work.normal:
        rest, parts = only(work.free, normal), [zero for _ in directions]
        for _ in range(2 if directions else 0):
            for index, direction in enumerate(directions):
                part = dot(direction, rest)
                rest, parts[index] = added(rest, direction, -part), parts[index] + part
        squared = dot(rest, rest)
        used = squared > 0.0
        inverse_length = jnp.where(used, 1.0 / jnp.sqrt(jnp.where(used, squared, 1.0)), 1.0)
        x, y, z = rest
        directions.append((x * inverse_length, y * inverse_length, z * inverse_length))
        factor.append(parts)
        inverse_lengths.append(inverse_length)
    first, second, third = inverse_lengths
    (r01,), (r02, r12) = factor[1], factor[2]
    i01, i12 = -r01 * first * second, -r12 * second * third
    i02 = (r01 * r12 * second - r02) * first * third
    inverse = ((first, i01, i02), (zero, second, i12), (zero, zero, third))
    return Basis(directions=(directions[0], directions[1], directions[2]), inverse=inverse)


def dot(first: Triple, second: Triple) -> Each:
    """Scalar product."""
    return first[0] * second[0] + first[1] * second[1] + first[2] * second[2]


def added(vector: Triple, other: Triple, weight: Each | float) -> Triple:
    """``vector + weight * other``."""
    return vector[0] + weight * other[0], vector[1] + weight * other[1], vector[2] + weight * other[2]


def combined(weights: Triple, vectors: tuple[Triple, Triple, Triple]) -> Triple:
    """``sum_i weights_i vectors_i``."""
    x, y, z = ((v[0], v[1], v[2]) for v in zip(*vectors, strict=True))
    return dot(weights, x), dot(weights, y), dot(weights, z)


def chosen(where: Flags, first: Triple, second: Triple) -> Triple:
    """Entry by entry ``first`` where the flag holds, else ``second``."""
    x, y, z = (jnp.where(flag, a, b) for flag, a, b in zip(where, first, second, strict=True))
    return x, y, z


def only(free: Flags, vector: Triple) -> Triple:
    """``vector`` on the free axes, zero elsewhere."""
    zero = jnp.zeros_like(vector[0])
    return chosen(free, vector, (zero, zero, zero))


def triple(vector: Float[Array, "3 n"]) -> Triple:
    """The entries of ``vector``."""
    return vector[0], vector[1], vector[2]
