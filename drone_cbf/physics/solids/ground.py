"""The ground: everything below a height."""

from __future__ import annotations

from flax import struct
from jaxtyping import Array, Bool, Float


@struct.dataclass
class Ground:
    """Level ground; ``g`` is 0 in scenes without it, else 1."""

    height: Float[Array, "g"]  # Solid below [m]
    active: Bool[Array, "g"]  # False for an unused slot
