"""What enters and leaves the safety filter: one row, command limits, and the command flown with how it came about."""

from __future__ import annotations

import enum

from flax import struct
from jaxtyping import Array, Bool, Float, Int

from drone_cbf.arrays import Scalar, Vector

SLACK_TOLERANCE = 1e-4
"""Slack above which a row counts as relaxed (unit of the row); float32 rounding of a row of size 100 lies below."""


class Status(enum.IntEnum):
    """How the flown command came about. The last three are counted: each is a step without a certificate."""

    NOMINAL = 0
    """The row holds at the nominal command clipped to the limits, which is flown."""
    INTERVENED = 1
    """The nearest admissible command that satisfies the row is flown."""
    RELAXED = 2
    """The row is missed by more than ``SLACK_TOLERANCE``: no admissible command satisfies it, or none that the
    penalty pays for."""
    NO_AUTHORITY = 3
    """The row is missed and its largest coefficient is below ``FilterConfig.authority``: the clipped nominal command
    is flown."""
    FALLBACK = 4
    """An input or the result is not finite: the fallback command is flown."""


@struct.dataclass
class Row:
    """One CBF condition ``normal . u >= offset`` on the command u [m/s^2, world frame]."""

    normal: Vector
    """a: coefficients (3,); unit of ``offset`` per m/s^2."""
    offset: Scalar
    """b: right-hand side (); e.g. [m/s] for a barrier in metres."""


@struct.dataclass
class Limits:
    """Admissible commands ``lower <= u <= upper`` [m/s^2, world frame]; finite, and an axis may have zero width."""

    lower: Vector
    upper: Vector


@struct.dataclass
class SafeCommand:
    """The command flown, and what it cost."""

    command: Vector
    """u (3,) [m/s^2, world frame], within the limits."""
    slack: Scalar
    """max(0, b - a.u) (), in the unit of the row as given."""
    multiplier: Scalar
    """Dual variable of the row (), for the row divided by max|a|: in [0, penalty], or with a quadratic penalty the
    penalty times the slack. Carries no gradient."""
    status: Int[Array, ""]
    """A ``Status`` (), int32."""


@struct.dataclass
class Solution:
    """What a solver returns for one QP; fields as in ``SafeCommand``."""

    command: Vector
    slack: Scalar
    multiplier: Scalar


@struct.dataclass
class ActiveSet:
    """Which constraints bind at a solution."""

    free: Bool[Array, "3"]
    """Axes on which the command follows ``nominal + multiplier * normal``; the others rest on a limit."""
    binding: Bool[Array, ""]
    """The multiplier is positive."""
    relaxed: Bool[Array, ""]
    """The multiplier is at its cap: the row is missed."""
    multiplier: Float[Array, ""]
    """lambda, in the unit of the scaled problem."""
