"""Oriented boxes: walls, crates, and the frames of windows and gates."""

from __future__ import annotations

from flax import struct
from jaxtyping import Array, Bool, Float

from drone_cbf.arrays import Scalar


@struct.dataclass
class Boxes:
    """``b`` solid boxes, each turned about its centre."""

    centre: Float[Array, "b 3"]  # At time zero [m]
    half_size: Float[Array, "b 3"]  # Half of each side, along the box's own axes [m]
    rotation: Float[Array, "b 3 3"]  # Columns are the box's own axes in the world frame; they do not turn
    velocity: Float[Array, "b 3"]  # Constant [m/s]
    active: Bool[Array, "b"]  # False for unused slots

    def at(self, time: Scalar | float) -> Boxes:
        """The boxes at ``time`` [s]."""
        return self.replace(centre=self.centre + self.velocity * time)
