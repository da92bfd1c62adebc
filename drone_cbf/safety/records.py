"""Inputs and outputs of the safety filter: row, command limits, safe command with its status."""

import enum

from flax import struct
from jaxtyping import Array, Bool, Float, Int

from drone_cbf.arrays import Scalar, Vector

SLACK_TOLERANCE = 1e-4
"""Slack above which a row counts as relaxed (unit of the row); float32 rounding of a row of size 100 lies below."""
RELATIVE_SLACK = 5e-4
"""The same relative to max|a| [m/s^2], for rows below 0.2. By more than this, and the rounding of the sum, no row that
is called met is missed."""
LARGEST_COMMAND = 1e3
"""Commands and limits beyond this [m/s^2] are refused: their own rounding in float32 would miss rows by
:data:`RELATIVE_SLACK`. `PhysicsConfig.max_acceleration` has the same bound."""
LARGEST_ROW = 1e32
"""Rows with an entry beyond this are refused: their gradients overflow in float32."""


class Status(enum.IntEnum):
    """Origin of the safe command. The last five carry no safety certificate and are counted."""

    NOMINAL = 0
    """The nominal command, clipped to the limits, meets the row and is used. h may be negative: the row asks that it
    recovers, dh/dt >= -alpha h, and the nominal command brakes hard enough."""
    INTERVENED = 1  # The nearest admissible command that meets the row is used
    RELAXED = 2
    """The row is violated by more than ``SLACK_TOLERANCE``, or than ``RELATIVE_SLACK * max|a|`` if that is less: no
    admissible command meets it, or only at a multiplier above the penalty."""
    NO_AUTHORITY = 3
    """The row is violated and its largest coefficient is below ``FilterConfig.authority``: the clipped nominal command
    is used."""
    FALLBACK = 4
    """An input is not finite or beyond ``LARGEST_COMMAND`` or ``LARGEST_ROW``, limits are in the wrong order, or the
    result is not finite: the fallback command is used."""
    UNAVOIDABLE = 5
    """Something is on the way to where the command will act, nearer than any command can change: the drone brakes."""
    NO_POINTS = 6
    """The sensor did not look anywhere, which does not distinguish free space from blindness: the drone brakes."""


@struct.dataclass
class Row:
    """One CBF condition ``normal . u >= offset`` on the command u [m/s^2, world frame]."""

    normal: Vector  # a: coefficients (3,); unit of ``offset`` per m/s^2
    offset: Scalar  # b: right-hand side (); e.g. [m/s] for a barrier in metres.


@struct.dataclass
class Rows:
    """Several conditions ``normal_i . u >= offset_i`` on one command; as :class:`Row` each."""

    normal: Float[Array, "k 3"]
    offset: Float[Array, "k"]
    mask: Bool[Array, "k"]  # False for rows that do not count, whatever they hold


@struct.dataclass
class Limits:
    """Admissible commands ``lower <= u <= upper`` [m/s^2, world frame]; finite, and an axis may have zero width.

    Numbers below the smallest normal one may count as zero, as everywhere in XLA.
    """

    lower: Vector
    upper: Vector


@struct.dataclass
class SafeCommand:
    """Safe command with slack, multiplier and status."""

    command: Vector  # u (3,) [m/s^2, world frame], within the limits
    slack: Scalar  # max(0, b - a.u) (), in the unit of the row as given
    multiplier: Scalar
    """Dual variable () of the row divided by max|a|, in [0, penalty]; penalty times slack for a quadratic penalty. No
    gradient."""
    status: Int[Array, ""]  # A ``Status`` (), int32


@struct.dataclass
class SafeCommands:
    """Safe command under several rows; as :class:`SafeCommand`, slack and multiplier of each row."""

    command: Vector  # u (3,) [m/s^2, world frame], within the limits
    slack: Float[Array, "k"]  # Zero for masked rows
    multiplier: Float[Array, "k"]
    status: Int[Array, ""]
    """The worst of the rows: relaxed if one is, without authority if one of those is missed. int32."""


@struct.dataclass
class RowsSolution:
    """Result of a solver for several rows; fields as in ``SafeCommands``."""

    command: Vector
    slack: Float[Array, "k"]
    multiplier: Float[Array, "k"]


@struct.dataclass
class Solution:
    """Result of a solver; fields as in ``SafeCommand``."""

    command: Vector
    slack: Scalar
    multiplier: Scalar


@struct.dataclass
class ActiveSet:
    """Which constraints bind at a solution."""

    free: Bool[Array, "3"]  # Axes on which the command is ``nominal + multiplier * normal``; the others are on a limit
    binding: Bool[Array, ""]  # The multiplier is positive
    relaxed: Bool[Array, ""]  # The multiplier is at its cap: the row is violated
    multiplier: Float[Array, ""]  # lambda, in the unit of the scaled problem
