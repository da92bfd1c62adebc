"""What a sensor reports in one control step."""

from typing import Protocol, runtime_checkable

from flax import struct
from jaxtyping import Array, Bool, Float

from drone_cbf.arrays import Scalar, Vector


@struct.dataclass
class OwnMotion:
    """Measured own motion, world frame."""

    position: Vector  # [m]
    velocity: Vector  # [m/s]


@runtime_checkable
class MotionErrors(Protocol):
    """What the errors of every sensor hold of the own motion."""

    @property
    def position(self) -> Vector: ...  # [m]

    @property
    def velocity(self) -> Vector: ...  # [m/s]


@struct.dataclass
class Reading:
    """One reading of ``n`` points; world frame, placed by the measured own position."""

    own: OwnMotion
    noise: Scalar  # Standard deviation of own position [m] and velocity [m/s], along any axis
    points: Float[Array, "n 3"]  # [m]
    hit: Bool[Array, "n"]  # False: nothing there, or out of range; such a row must not be used
    velocity: Float[Array, "n 3"]  # Of the points [m/s]; zero where the sensor does not report it
    spread: Float[Array, "n"]  # Standard deviation of each point relative to the drone, along any axis [m]
