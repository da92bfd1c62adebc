"""Horizontal cylinders with flat ends: beams, branches and pipes across the flight."""

from __future__ import annotations

from flax import struct
from jaxtyping import Array, Bool, Float

from drone_cbf.arrays import Scalar


@struct.dataclass
class Cylinders:
    """``c`` solid cylinders with horizontal axes."""

    centre: Float[Array, "c 3"]  # At time zero [m]
    heading: Float[Array, "c"]  # Direction of the axis in the horizontal plane, from x towards y [rad]
    half_length: Float[Array, "c"]  # [m]
    radius: Float[Array, "c"]  # [m]
    velocity: Float[Array, "c 3"]  # Constant [m/s]
    active: Bool[Array, "c"]  # False for unused slots

    def at(self, time: Scalar | float) -> Cylinders:
        """The cylinders at ``time`` [s]."""
        return self.replace(centre=self.centre + self.velocity * time)
