"""Exact solution of the CBF-QP with several rows, by a dual active-set method.

    minimise 0.5 |u - nominal|^2 + sum_i cap_i slack_i   subject to   a_i.u + slack_i >= b_i, slack_i >= 0, u in its box

Each row has a multiplier in [0, cap_i]; at the cap it is relaxed. Goldfarb and Idnani (Math. Programming 27, 1983),
with bounded multipliers: start at the clipped nominal command; a constraint on the wrong side of its bound enters, its
multiplier moves and those of the working set follow, until it is met, or until one of them reaches a bound and leaves.
The dual objective rises with every step, so it ends. Parallel and duplicate rows are never both in the working set.

A step computes command and multipliers afresh from the working set: nothing drifts in float32.

It works on batches: the loop ends when the last problem is solved, and arrays have the batch last.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from drone_cbf.safety.working_point import Point, Problems, apart, at, pull
from drone_cbf.safety.working_set import Basis, Each, Triple, WorkingSet, added, basis_of, combined, dot, only, triple

DEPENDENT = 1e-5
"""A normal whose part across the working set is less than this fraction of it counts as dependent on it."""
ROUNDING = 1.0
"""Units of rounding of its terms by which a constraint may be missed before it enters."""
ORDINARY_STEPS = 2
"""Steps per constraint after which tolerances grow, twofold every :data:`DOUBLING` steps: where more than three planes
meet in a point, rounding could let rows take turns for ever. Most problems take as many steps as constraints are
active, plus one; if no command meets all of 16 rows, 30 on average."""
DOUBLING = 4
EXTRA_STEPS = 80  # After which any command counts as good enough
NONE = -1  # In place of an index


@struct.dataclass
class Entering:
    """The constraint whose multiplier moves."""

    index: Int[Array, "n"]  # Of a row; k + axis: lower limit; k + 3 + axis: upper limit
    normal: Triple
    offset: Each
    cap: Each
    sign: Each  # 1 if the multiplier grows, -1 if it falls from the cap
    multiplier: Each


@struct.dataclass
class Progress:
    """What evolves."""

    work: WorkingSet
    relaxed: Bool[Array, "k n"]  # Rows whose multiplier is at the cap
    entering: Entering
    count: Int[Array, ""]
    goes_on: Bool[Array, ""]


@struct.dataclass
class Lengths:
    """How far the entering multiplier can move before something happens."""

    met: Each  # Its constraint is met
    bound: Each  # It reaches its own bound
    rows: Triple  # The multiplier of a slot reaches one
    limits: Triple  # That of a held axis does
    rates: Triple  # By which the multipliers of the slots change
    step: Each  # The least of them


def solved(problems: Problems) -> Progress:
    """Working sets and relaxed rows of the solutions."""
    most = _ordinary_steps(problems) + EXTRA_STEPS
    return jax.lax.while_loop(
        lambda now: now.goes_on & (now.count < most), lambda now: _step(problems, now), started(problems)
    )


def _ordinary_steps(problems: Problems) -> int:
    return ORDINARY_STEPS * (problems.offset.shape[0] + 6)


def started(problems: Problems) -> Progress:
    """The clipped nominal command; axes of zero width stay held."""
    zero = jnp.zeros_like(problems.nominal[0])
    none, zeros = jnp.full(zero.shape, NONE, jnp.int32), (zero, zero, zero)

    def side(nominal: Each, lower: Each, upper: Each) -> Each:
        return jnp.where((nominal < lower) | (lower == upper), zero - 1.0, jnp.where(nominal > upper, 1.0, zero))

    x, y, z = map(side, problems.nominal, problems.lower, problems.upper)
    work = WorkingSet(side=(x, y, z), row=(none, none, none), normal=(zeros, zeros, zeros), offset=zeros, cap=zeros)
    return Progress(
        work=work,
        relaxed=jnp.zeros(problems.offset.shape, bool),
        entering=Entering(index=none, normal=zeros, offset=zero, cap=zero, sign=zero + 1.0, multiplier=zero),
        count=jnp.zeros((), jnp.int32),
        goes_on=jnp.ones((), bool),
    )


def _step(problems: Problems, now: Progress) -> Progress:
    """Choose what enters, unless something is entering already, and move its multiplier as far as possible."""
    basis = apart(now.goes_on, basis_of, now.work)

    def evaluated(basis: Basis) -> Point:
        moved = added(pull(problems, now.relaxed), now.entering.normal, now.entering.multiplier)
        return at(problems, now.work, basis, moved)

    point = apart(now.goes_on, evaluated, basis)

    def choose(point: Point) -> Entering:
        candidate = _most_violated(problems, now, point)
        return jax.tree.map(lambda new, old: jnp.where(now.entering.index < 0, new, old), candidate, now.entering)

    entering = apart(now.goes_on, choose, point)
    # Its multiplier is carried by ``entering`` from now on.
    own = jnp.arange(problems.offset.shape[0])[:, None] == entering.index
    now = now.replace(entering=entering, relaxed=now.relaxed & ~own)
    lengths = apart(now.goes_on, lambda basis, point: _lengths(problems, now, basis, point), basis, point)
    return _updated(now, lengths)


def misses_any(problems: Problems, command: Float[Array, "3 n"]) -> Bool[Array, "n"]:
    """Whether ``command`` misses any row by more than its tolerance."""
    return jnp.any(_short(problems, triple(command)) > problems.tolerance, axis=0)


def _short(problems: Problems, command: Triple) -> Float[Array, "k n"]:
    return problems.offset - sum(a * u for a, u in zip(problems.normal, command, strict=True))


def _most_violated(problems: Problems, now: Progress, point: Point) -> Entering:
    """The constraint furthest on the wrong side of its bound; index ``NONE`` if none is, beyond its tolerance."""
    work, command, places = now.work, point.command, jnp.arange(problems.offset.shape[0])[:, None]
    short = _short(problems, command)
    wrong = jnp.where(now.relaxed, -short, short)
    growth = jnp.exp2(jnp.maximum(now.count - _ordinary_steps(problems), 0) / DOUBLING).astype(short.dtype)
    used = (places == work.row[0]) | (places == work.row[1]) | (places == work.row[2])
    wrong = jnp.where(used | (wrong <= growth * problems.tolerance), 0.0, wrong)
    worst, place = jnp.max(wrong, axis=0), jnp.argmax(wrong, axis=0).astype(jnp.int32)
    own = places == place

    def of_it(values: Float[Array, "k n"]) -> Each:
        return jnp.sum(jnp.where(own, values, 0.0), axis=0)

    x, y, z = map(of_it, problems.normal)
    cap, falls, one = of_it(problems.cap), jnp.any(own & now.relaxed, axis=0), jnp.ones_like(worst)
    found = Entering(
        index=jnp.where(worst > 0.0, place, NONE),
        normal=(x, y, z),
        offset=of_it(problems.offset),
        cap=cap,
        sign=jnp.where(falls, -one, one),
        multiplier=jnp.where(falls, cap, 0.0),
    )
    return _or_limit(problems, now, point, found, worst, growth)


def _or_limit(
    problems: Problems, now: Progress, point: Point, found: Entering, worst: Each, growth: Float[Array, ""]
) -> Entering:
    """``found``, which is missed by ``worst``, or a limit that is exceeded by more; ``growth`` of the tolerances."""
    k, one = problems.offset.shape[0], jnp.ones_like(worst)
    for side, limits in ((-1.0, problems.lower), (1.0, problems.upper)):
        for axis in range(3):
            beyond = side * (point.command[axis] - limits[axis])
            least = jnp.maximum(worst, growth * ROUNDING * jnp.finfo(worst.dtype).eps * jnp.abs(limits[axis]))
            worse = now.work.free[axis] & (beyond > least)
            worst = jnp.where(worse, beyond, worst)
            x, y, z = (jnp.where(other == axis, -side, 0.0) * one for other in range(3))
            limit = Entering(
                index=jnp.full_like(found.index, k + axis + (3 if side > 0.0 else 0)),
                normal=(x, y, z),
                offset=-side * limits[axis],
                cap=jnp.inf * one,
                sign=one,
                multiplier=jnp.zeros_like(one),
            )
            found = jax.tree.map(lambda new, old, worse=worse: jnp.where(worse, new, old), limit, found)
    return found


def _lengths(problems: Problems, now: Progress, basis: Basis, point: Point) -> Lengths:
    """Of the step of the entering multiplier."""
    work, entering = now.work, now.entering
    free, sign, normal = work.free, entering.sign, only(now.work.free, entering.normal)
    across, weights = basis.across(normal), basis.weights(basis.coordinates(normal))
    gain, size = dot(across, across), dot(normal, normal)
    missing = sign * (entering.offset - dot(entering.normal, point.command))
    room = (work.row[0] < 0) | (work.row[1] < 0) | (work.row[2] < 0)
    independent = room & (gain > DEPENDENT**2 * size)
    met = jnp.where(independent, jnp.maximum(missing, 0.0) / jnp.where(independent, gain, 1.0), jnp.inf)
    bound = jnp.where(sign > 0.0, entering.cap - entering.multiplier, entering.multiplier)
    rates = (-sign * weights[0], -sign * weights[1], -sign * weights[2])
    left = added(entering.normal, combined(weights, work.normal), -1.0)
    rows = [_until_bound(point.rows[slot], rates[slot], work.cap[slot], work.row[slot] >= 0) for slot in range(3)]
    limits = []
    for axis in range(3):
        # The multiplier of a held axis is measured inwards, so that it stays positive.
        inwards, counts = -work.side[axis], ~free[axis] & (problems.lower[axis] < problems.upper[axis])
        limits.append(_until_bound(inwards * point.held[axis], -sign * inwards * left[axis], jnp.inf, counts))
    step = jnp.minimum(met, bound)
    for length in (*rows, *limits):
        step = jnp.minimum(step, length)
    (first, second, third), (x, y, z) = rows, limits
    return Lengths(met=met, bound=bound, rows=(first, second, third), limits=(x, y, z), rates=rates, step=step)


def _until_bound(value: Each, rate: Each, cap: Each | float, counts: Bool[Array, "n"]) -> Each:
    """How far the entering multiplier can move before ``value``, which changes at ``rate``, leaves [0, cap]."""
    falls, grows = rate < 0.0, rate > 0.0
    distance = jnp.where(falls, value, cap - value)
    length = jnp.maximum(distance, 0.0) / jnp.where(falls, -rate, jnp.where(grows, rate, 1.0))
    return jnp.where(counts & (falls | grows), length, jnp.inf)


def _updated(now: Progress, lengths: Lengths) -> Progress:
    """After a step that ends for the first of the reasons whose length it has."""
    work, entering, relaxed, step = now.work, now.entering, now.relaxed, lengths.step
    k, places = relaxed.shape[0], jnp.arange(relaxed.shape[0])[:, None]
    moves = (entering.index >= 0) & jnp.isfinite(step)
    met = moves & (step == lengths.met)
    at_bound = moves & ~met & (step == lengths.bound)
    leaving = moves & ~met & ~at_bound  # Something leaves, and has not been found yet
    relaxed = relaxed | ((places == entering.index) & at_bound & (entering.sign > 0.0))
    vacant, zero = met & (entering.index < k), jnp.zeros_like(step)
    slots, side = [], []
    for slot, old in enumerate(zip(work.row, work.normal, work.offset, work.cap, strict=True)):
        leaves = leaving & (step == lengths.rows[slot])
        leaving = leaving & ~leaves
        relaxed = relaxed | ((places == work.row[slot]) & leaves & (lengths.rates[slot] > 0.0))
        taken = vacant & (work.row[slot] < 0)
        vacant = vacant & ~taken
        new = (entering.index, entering.normal, entering.offset, entering.cap)
        none = (jnp.full_like(entering.index, NONE), (zero, zero, zero), zero, zero)
        entered = jax.tree.map(lambda a, b, taken=taken: jnp.where(taken, a, b), new, old)
        slots.append(jax.tree.map(lambda a, b, leaves=leaves: jnp.where(leaves, a, b), none, entered))
    for axis in range(3):
        leaves = leaving & (step == lengths.limits[axis])
        leaving = leaving & ~leaves
        held = jnp.where(met & (entering.index == k + axis), -1.0, jnp.where(leaves, 0.0, work.side[axis]))
        side.append(jnp.where(met & (entering.index == k + 3 + axis), 1.0, held))
    done = met | at_bound | ~moves
    row, normal, offset, cap = zip(*slots, strict=True)
    return Progress(
        work=WorkingSet(side=(side[0], side[1], side[2]), row=row, normal=normal, offset=offset, cap=cap),
        relaxed=relaxed,
        entering=entering.replace(
            index=jnp.where(done, NONE, entering.index),
            normal=only((~done, ~done, ~done), entering.normal),
            multiplier=jnp.where(done, 0.0, entering.multiplier + entering.sign * jnp.where(moves, step, 0.0)),
        ),
        count=now.count + 1,
        goes_on=jnp.any(moves),
    )
