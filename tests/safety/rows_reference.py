"""The CBF-QP with several rows in NumPy, independent of the library: problems, enumeration, and certificates."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, fields, replace

import numpy as np

LIMIT = np.array([9.0, 9.0, 7.0])


@dataclass(frozen=True)
class Problems:
    """A batch of n problems with k rows; commands in m/s^2."""

    normal: np.ndarray  # (n, k, 3)
    offset: np.ndarray  # (n, k)
    mask: np.ndarray  # (n, k)
    nominal: np.ndarray  # (n, 3)
    lower: np.ndarray  # (n, 3)
    upper: np.ndarray  # (n, 3)

    @property
    def size(self) -> np.ndarray:
        """max|a| of each row (n, k)."""
        return np.abs(self.normal).max(axis=-1)

    def astype(self, dtype) -> Problems:
        numbers = {f.name: np.asarray(getattr(self, f.name), dtype) for f in fields(self) if f.name != "mask"}
        return replace(self, **numbers)

    def __getitem__(self, index) -> Problems:
        return Problems(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def rows(self, order) -> Problems:
        """With these rows, in this order."""
        return replace(self, normal=self.normal[:, order], offset=self.offset[:, order], mask=self.mask[:, order])


def concatenate(parts) -> Problems:
    return Problems(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Problems)})


def reached(normal, command):
    """a.u of each row (n, k)."""
    return np.einsum("nki,ni->nk", normal, command)


def cost(problems: Problems, command: np.ndarray, penalty: float) -> np.ndarray:
    """What an admissible command costs, slack included, in float64 (n,)."""
    p = problems.astype(np.float64)
    missed = np.where(p.mask, np.maximum(p.offset - reached(p.normal, command), 0.0) / p.size, 0.0)
    return 0.5 * np.sum((command - p.nominal) ** 2, axis=-1) + penalty * missed.sum(axis=-1)


def lower_bound(problems: Problems, multiplier: np.ndarray, penalty: float) -> np.ndarray:
    """A bound on the cost of every admissible command: the dual function in float64 (n,)."""
    p = problems.astype(np.float64)
    weight = np.where(p.mask, np.clip(multiplier, 0.0, penalty), 0.0) / p.size
    command = np.clip(p.nominal + np.einsum("nk,nki->ni", weight, p.normal), p.lower, p.upper)
    moved = 0.5 * np.sum((command - p.nominal) ** 2, axis=-1)
    return moved + np.sum(weight * (p.offset - reached(p.normal, command)), axis=-1)


def largest_error(problems: Problems, command: np.ndarray, multiplier: np.ndarray, penalty: float) -> np.ndarray:
    """How far ``command`` can be from the solution (n,): the cost grows with half the squared distance from it."""
    gap = cost(problems, command, penalty) - lower_bound(problems, multiplier, penalty)
    return np.sqrt(2.0 * np.maximum(gap, 0.0))


def solve(problems: Problems, penalty: float) -> np.ndarray:
    """Commands by enumeration (n, 3): of all sets of limits, rows met with equality and rows relaxed, the cheapest."""
    p = problems.astype(np.float64)
    k = p.offset.shape[1]
    normal, offset = p.normal / p.size[..., None], p.offset / p.size
    best, least = np.clip(p.nominal, p.lower, p.upper), cost(p, np.clip(p.nominal, p.lower, p.upper), penalty)
    for sides in itertools.product((-1, 0, 1), repeat=3):
        free = np.array(sides) == 0
        resting = np.where(free, 0.0, np.where(np.array(sides) < 0, p.lower, p.upper))
        for states in itertools.product((0, 1, 2), repeat=k):
            met, relaxed = np.array(states) == 1, np.array(states) == 2
            if met.sum() > free.sum():
                continue
            pulled = p.nominal + penalty * normal[:, relaxed].sum(axis=1)
            along, missing = normal[:, met] * free, offset[:, met] - reached(normal[:, met], resting)
            gram = np.einsum("nai,nbi->nab", along, along)
            missing = missing - reached(along, pulled)
            weight = np.einsum("nab,nb->na", np.linalg.pinv(gram, hermitian=True), missing)
            command = np.where(free, pulled + np.einsum("na,nai->ni", weight, along), resting)
            command = np.clip(command, p.lower, p.upper)
            price = cost(p, command, penalty)
            best, least = np.where((price < least)[:, None], command, best), np.minimum(price, least)
    return best


def random_problems(n: int, k: int, seed: int) -> Problems:
    """Rows of every size; most problems can be met, a part of the rows is met already, a tenth is masked."""
    rng = np.random.default_rng(seed)
    upper, lower = (sign * np.tile(LIMIT, (n, 1)) * rng.uniform(0.5, 1.0, (n, 3)) for sign in (1.0, -1.0))
    normal = rng.normal(size=(n, k, 3))
    normal *= 10 ** rng.uniform(-2, 2, (n, k, 1)) / np.abs(normal).max(axis=-1, keepdims=True)
    nominal = rng.uniform(-12.0, 12.0, (n, 3))
    inside = rng.uniform(lower, upper)
    spare = rng.exponential(4.0, (n, k)) * rng.choice([0.0, 1.0, 1.0, 1.0, -0.3], (n, k))
    offset = reached(normal, inside) - spare * np.abs(normal).max(axis=-1)
    return Problems(normal, offset, rng.random((n, k)) < 0.9, nominal, lower, upper)


def adversarial_families(n: int, k: int, seed: int) -> dict[str, Problems]:
    """Problems at which solvers break, n of each kind, rounded to float32."""
    rng = np.random.default_rng(seed)
    base = random_problems(n, k, seed + 1)
    unit = base.normal / base.size[..., None]
    inside = rng.uniform(base.lower, base.upper)
    flat = rng.random((n, 3)) < 0.5
    shuffled = np.argsort(rng.random((n, k, 3)), axis=-1)
    wide = np.take_along_axis(10 ** rng.uniform([0, -1, -7], [0.1, 0, -1], (n, k, 3)), shuffled, -1) * np.sign(unit)
    signs = rng.choice([-1.0, 0.0, 1.0], (n, k, 3))
    signs[..., 0] = np.where(np.abs(signs).max(-1) == 0.0, 1.0, signs[..., 0])

    def through(normal, point, spare=0.0):
        """Rows whose planes contain ``point``, or miss it by ``spare``."""
        return replace(base, normal=normal, offset=reached(normal, point) - spare * np.abs(normal).max(-1))

    spare = rng.exponential(2.0, (n, k))
    opposed = np.where(np.arange(k) % 2 == 0, 1.0, -1.0)[:, None] * unit[:, np.arange(k) // 2 * 2]
    pencil = unit[:, :1] + 10 ** rng.uniform(-6, -1, (n, 1, 1)) * unit
    square = {"lower": np.full((n, 3), -9.0), "upper": np.full((n, 3), 9.0)}
    families = {
        "random": base,
        "no command meets all": replace(base, normal=unit, offset=rng.uniform(-5.0, 20.0, (n, k))),
        "opposed": replace(base, normal=opposed, offset=rng.uniform(-2.0, 4.0, (n, k))),
        "one point": through(unit, inside),
        "nearly parallel": through(pencil, inside, spare * rng.choice([0.0, 1e-3, 1.0], (n, 1))),
        "ties": replace(through(signs, np.round(inside)), nominal=np.round(base.nominal), **square),
        "duplicates": through(unit[:, np.arange(k) // 2], inside, spare[:, np.arange(k) // 2]),
        "tiny normal": through(unit * 1.01e-3, inside, spare),
        "huge normal": through(unit * 10 ** rng.uniform(4, 30, (n, k, 1)), inside, spare),
        "huge offset": replace(base, offset=10 ** rng.uniform(2, 30, (n, k)) * rng.choice([-1.0, 1.0], (n, k))),
        "wide range of coefficients": through(wide, inside, spare),
        "nominal far outside": replace(base, nominal=rng.uniform(-60.0, 60.0, (n, 3))),
        "nominal on a limit": replace(base, nominal=np.where(flat, base.lower, base.upper)),
        "zero width": replace(base, lower=np.where(flat, base.upper, base.lower)),
        "at a corner": through(unit, np.where(flat, base.lower, base.upper)),
    }
    return {name: problems.astype(np.float32) for name, problems in families.items()}
