"""What a sensor reports in one control step."""

from flax import struct
from jaxtyping import Array, Bool, Float

from drone_cbf.arrays import Scalar, Vector

DEPTH_ROWS, DEPTH_COLUMNS = 12, 16
DEPTH_PIXELS = DEPTH_ROWS * DEPTH_COLUMNS  # Pooled pixels of a depth image


@struct.dataclass
class OwnMotion:
    """Measured own motion, world frame."""

    position: Vector  # [m]
    velocity: Vector  # [m/s]
    yaw: Scalar | None = None  # Heading [rad], anticlockwise from the x axis; None: no sensor depends on it


@struct.dataclass
class Others:
    """The ``k`` nearest other drones of a swarm; world frame."""

    position: Float[Array, "k 3"]  # Centres [m]
    velocity: Float[Array, "k 3"]  # [m/s]
    seen: Bool[Array, "k"]  # False: fewer are within the sensing radius; such a row must not be used


@struct.dataclass
class Reading:
    """One reading of ``n`` points; world frame, placed by the measured own position."""

    own: OwnMotion
    noise: Scalar  # Standard deviation of own position [m] and velocity [m/s], along any axis
    points: Float[Array, "n 3"]  # [m]
    hit: Bool[Array, "n"]  # False: nothing there, or out of range; such a row must not be used
    velocity: Float[Array, "n 3"]  # Of the points [m/s]; zero where the sensor does not report it
    spread: Float[Array, "n"]  # Standard deviation of each point relative to the drone, along any axis [m]
    blind: Bool[Array, ""] | None = None
    """True: nothing was measured, not even that a ray met nothing, as it does in free space. None: never so."""
    image: Float[Array, "12 16"] | None = None
    """Inverse depth 3 / d - 0.6, rows from the top and columns from the left (perception/depth.py); None: no camera."""
    others: Others | None = None
    """Other drones, with independent errors of standard deviation ``noise`` [m, m/s]; None: the drone flies alone."""
