"""The CBF-QP in NumPy, independent of the library: batches of problems, and their solutions in float64 by bisection."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

AUTHORITY = 1e-3
LIMIT = np.array([9.0, 9.0, 7.0])


@dataclass(frozen=True)
class Problems:
    """A batch of n problems; commands in m/s^2."""

    normal: np.ndarray  # (n, 3)
    offset: np.ndarray  # (n,)
    nominal: np.ndarray  # (n, 3)
    lower: np.ndarray  # (n, 3)
    upper: np.ndarray  # (n, 3)

    @property
    def size(self) -> np.ndarray:
        """max|a| (n,)."""
        return np.abs(self.normal).max(axis=1)

    @property
    def largest(self) -> np.ndarray:
        """The largest a.u any admissible command reaches (n,)."""
        return np.maximum(self.normal * self.lower, self.normal * self.upper).sum(axis=1)

    def astype(self, dtype) -> Problems:
        return Problems(**{f.name: np.asarray(getattr(self, f.name), dtype) for f in fields(self)})

    def __getitem__(self, index) -> Problems:
        return Problems(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


@dataclass(frozen=True)
class Solutions:
    command: np.ndarray  # (n, 3)
    slack: np.ndarray  # (n,), unit of the row as given
    multiplier: np.ndarray  # (n,), of the row divided by max|a|


def solve(problems: Problems, penalty: float, halvings: int = 100) -> Solutions:
    """Bisection on the dual to the last bit of float64."""
    p = problems.astype(np.float64)
    normal, offset = p.normal / p.size[:, None], p.offset / p.size

    def command(multiplier):
        return np.clip(p.nominal + multiplier[:, None] * normal, p.lower, p.upper)

    def missed(multiplier):
        return np.einsum("ni,ni->n", normal, command(multiplier)) < offset

    low, high = np.zeros(len(offset)), np.full(len(offset), float(penalty))
    for _ in range(halvings):
        middle = 0.5 * (low + high)
        short = missed(middle)
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    multiplier = np.where(missed(np.zeros_like(low)), high, 0.0)
    u = command(multiplier)
    slack = np.where(missed(np.full_like(low, penalty)), offset - np.einsum("ni,ni->n", normal, u), 0.0)
    return Solutions(command=u, slack=np.maximum(slack, 0.0) * p.size, multiplier=multiplier)


def solve_quadratic(problems: Problems, penalty: float, halvings: int = 200) -> Solutions:
    """As :func:`solve` with ``0.5 * penalty * slack^2``: bisection on the slack, of the row divided by max|a|."""
    p = problems.astype(np.float64)
    normal, offset = p.normal / p.size[:, None], p.offset / p.size

    def command(slack):
        return np.clip(p.nominal + penalty * slack[:, None] * normal, p.lower, p.upper)

    def missed(slack):
        return np.einsum("ni,ni->n", normal, command(slack)) + slack < offset

    low = np.zeros(len(offset))
    high = np.maximum(offset - np.einsum("ni,ni->n", normal, command(low)), 0.0) * (1.0 + 1e-12)
    for _ in range(halvings):
        middle = 0.5 * (low + high)
        short = missed(middle)
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    return Solutions(command=command(high), slack=high * p.size, multiplier=penalty * high)


def random_problems(n: int, seed: int) -> Problems:
    """Rows of every size, from already met to just out of reach."""
    rng = np.random.default_rng(seed)
    upper = np.tile(LIMIT, (n, 1)) * rng.uniform(0.5, 1.0, (n, 3))
    lower = -np.tile(LIMIT, (n, 1)) * rng.uniform(0.5, 1.0, (n, 3))
    normal = rng.normal(size=(n, 3))
    normal *= 10 ** rng.uniform(-2, 2, (n, 1)) / np.abs(normal).max(axis=1, keepdims=True)
    nominal = rng.uniform(-12.0, 12.0, (n, 3))
    problems = Problems(normal, np.zeros(n), nominal, lower, upper)
    return _with_offset(problems, rng.uniform(-0.2, 1.1, n))


def _with_offset(problems: Problems, reach: np.ndarray) -> Problems:
    """Offset 0: met by the clipped nominal; 1: met by one admissible command only; beyond 1: infeasible."""
    nominal = np.clip(problems.nominal, problems.lower, problems.upper)
    now = np.einsum("ni,ni->n", problems.normal, nominal)
    return replace(problems, offset=now + reach * (problems.largest - now))


def adversarial_families(n: int, seed: int) -> dict[str, Problems]:
    """Problems at which solvers break, n of each kind, rounded to float32."""
    rng = np.random.default_rng(seed)
    base = random_problems(n, seed + 1)
    reach = rng.uniform(0.0, 1.0, n)

    def sized(normal):
        return normal / np.abs(normal).max(axis=1, keepdims=True)

    signs = rng.choice([-1.0, 1.0], (n, 3))
    shuffled = rng.permuted(np.tile(np.arange(3), (n, 1)), axis=1)
    wide_range = np.take_along_axis(10 ** rng.uniform([0, -1, -7], [0.1, 0, -1], (n, 3)), shuffled, axis=1) * signs
    axis_aligned = np.eye(3)[rng.integers(0, 3, n)] + rng.choice([0.0, 1e-30, 1e-20, 1e-9], (n, 3))
    equal = np.round(rng.uniform(-9.0, 9.0, (n, 1))) * np.ones((1, 3))
    flat = rng.random((n, 3)) < 0.5

    def reached(**changes):
        return _with_offset(replace(base, **changes), reach)

    square = np.full((n, 3), 9.0)
    families = {
        "random": base,
        "tiny normal": reached(normal=sized(base.normal) * AUTHORITY * 1.01),
        "huge normal": reached(normal=sized(base.normal) * 10 ** rng.uniform(4, 30, (n, 1))),
        "huge offset": replace(base, offset=10 ** rng.uniform(2, 30, n) * rng.choice([-1.0, 1.0], n)),
        "ties": reached(normal=signs, nominal=equal, lower=-square, upper=square),
        "axis-aligned": reached(normal=axis_aligned * signs),
        "nominal far outside": reached(nominal=rng.uniform(-60.0, 60.0, (n, 3))),
        "nominal on a limit": reached(nominal=np.where(flat, base.lower, base.upper)),
        "wide range of coefficients": reached(normal=wide_range * 10 ** rng.uniform(-2, 1, (n, 1))),
        "last axis left": _with_offset(replace(base, normal=wide_range), 1.0 - 10 ** rng.uniform(-7, -1, n)),
        "just infeasible": _with_offset(base, 1.0 + 10 ** rng.uniform(-6, 0, n)),
        "zero width": reached(lower=np.where(flat, base.upper, base.lower)),
    }
    families = {name: problems.astype(np.float32) for name, problems in families.items()}
    rounded = families["random"]
    families["at the largest reachable"] = replace(rounded, offset=rounded.largest)
    return families


def concatenate(families: dict[str, Problems]) -> Problems:
    parts = list(families.values())
    return Problems(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Problems)})


@dataclass(frozen=True)
class Kinks:
    """How far solutions are from where they are not differentiable; (n,) each."""

    off_limits: np.ndarray
    """Whether no axis is about to enter or leave a limit."""
    slope: np.ndarray
    """By how much the row is missed at the clipped nominal command."""
    free: np.ndarray
    """(n, 3) whether an axis is on no limit."""
    one_largest: np.ndarray
    """Whether one coefficient alone is the largest: max|a| sets the weight of the slack."""


def kinks(p: Problems, multiplier: np.ndarray, margin: float) -> Kinks:
    """Of the solutions with these multipliers, of the row divided by max|a|."""
    normal = p.normal / p.size[:, None]
    path = p.nominal + multiplier[:, None] * normal
    clear = (np.abs(path - p.lower).min(axis=1) > margin) & (np.abs(path - p.upper).min(axis=1) > margin)
    clipped = np.clip(p.nominal, p.lower, p.upper)
    largest_two = np.sort(np.abs(normal), axis=1)
    return Kinks(
        off_limits=clear,
        slope=p.offset - np.einsum("ni,ni->n", p.normal, clipped),
        free=(path > p.lower) & (path < p.upper),
        one_largest=largest_two[:, 2] - largest_two[:, 1] > margin,
    )


def smooth(problems: Problems, penalty: float, margin: float = 1e-3, free_norm: float = 0.02) -> np.ndarray:
    """Which problems lie away from every kink, with authority left on the free axes: central differences hold there."""
    p = problems.astype(np.float64)
    solution = solve(p, penalty)
    at = kinks(p, solution.multiplier, margin)
    norm = np.sqrt(np.sum(np.where(at.free, p.normal / p.size[:, None], 0.0) ** 2, axis=1))
    relaxed = solution.slack > margin * p.size
    # Where the row is relaxed, max|a| itself moves the command.
    certain = np.where(
        relaxed,
        at.one_largest,
        (solution.multiplier < penalty * (1 - margin)) & ((norm > free_norm) | (at.slope < 0)),
    )
    # Below the authority the gradient fades by design. Without a free axis there is none to fade.
    certain &= (norm * p.size > AUTHORITY) | ~at.free.any(axis=1) | (at.slope < 0)
    # The difference of two slacks of 1e20 is noise.
    certain &= np.abs(p.offset) < 1e3 * p.size
    return at.off_limits & certain & (np.abs(at.slope) > margin * p.size)


def central_differences(problems: Problems, penalty: float, step: float = 1e-6, solve=solve) -> np.ndarray:
    """d(command, slack)/d(normal, offset, nominal) in float64, (n, 4, 7)."""
    p = problems.astype(np.float64)
    columns = []
    for name, axes in (("normal", 3), ("offset", 1), ("nominal", 3)):
        for axis in range(axes):
            h = step * (np.ones_like(p.size) if name == "nominal" else p.size)
            shift = h if name == "offset" else np.eye(3)[axis] * h[:, None]
            ends = [solve(replace(p, **{name: getattr(p, name) + sign * shift}), penalty) for sign in (1.0, -1.0)]
            difference = np.column_stack([ends[0].command - ends[1].command, ends[0].slack - ends[1].slack])
            columns.append(difference / (2.0 * h[:, None]))
    return np.stack(columns, axis=-1)
