"""Problems of the CBF-QP with several rows, in batches, and the command that a working set determines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from drone_cbf.safety.working_set import Basis, Triple, WorkingSet, added, chosen, combined, dot, only


@struct.dataclass
class Problems:
    """``n`` problems of ``k`` rows, each divided by a power of two, so that its largest coefficient is in [1, 2)."""

    normal: tuple[Float[Array, "k n"], Float[Array, "k n"], Float[Array, "k n"]]  # By axis
    offset: Float[Array, "k n"]
    cap: Float[Array, "k n"]  # Largest multiplier
    tolerance: Float[Array, "k n"]  # By how much rounding alone may make a row look missed
    nominal: Triple  # [m/s^2]
    lower: Triple  # [m/s^2]
    upper: Triple  # [m/s^2]


@struct.dataclass
class Point:
    """Command and multipliers of a working set."""

    command: Triple
    rows: Triple  # Multipliers of the slots
    held: Triple  # Multipliers of held axes: what the limit adds to the command


def pull(problems: Problems, relaxed: Bool[Array, "k n"]) -> Triple:
    """The nominal command moved by the relaxed rows."""
    weight = jnp.where(relaxed, problems.cap, 0.0)
    x, y, z = (
        nominal + jnp.sum(weight * normal, axis=0)
        for nominal, normal in zip(problems.nominal, problems.normal, strict=True)
    )
    return x, y, z


def resting(problems: Problems, work: WorkingSet) -> Triple:
    """The limits on which held axes rest, zero for free ones."""
    x, y, z = work.side
    return only(work.held, chosen((x > 0.0, y > 0.0, z > 0.0), problems.upper, problems.lower))


def at(problems: Problems, work: WorkingSet, basis: Basis, pulled: Triple) -> Point:
    """The command nearest to ``pulled`` that meets the working set, and its multipliers."""
    rest, moving = resting(problems, work), only(work.free, pulled)
    x, y, z = (offset - dot(normal, rest) for offset, normal in zip(work.offset, work.normal, strict=True))
    wanted, there = basis.meeting((x, y, z)), basis.coordinates(moving)
    command = added(added(rest, basis.along(wanted), 1.0), basis.across(moving), 1.0)
    rows = basis.weights(added(wanted, there, -1.0))
    left = added(added(command, pulled, -1.0), combined(rows, work.normal), -1.0)
    return Point(command=command, rows=rows, held=only(work.held, left))


def apart(goes_on: Bool[Array, ""], function: Callable[..., Any], *arguments: Any) -> Any:
    """``function(*arguments)`` as a computation of its own; zeros once nothing goes on.

    Otherwise XLA on CPU repeats all that leads to a value in each of the loops that use it, a hundredfold here.
    """
    shapes = jax.eval_shape(function, *arguments)
    return jax.lax.cond(
        goes_on, function, lambda *_: jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes), *arguments
    )
