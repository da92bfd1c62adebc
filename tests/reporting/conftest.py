"""Plausible flights made with a few lines of numpy: a point mass, a braking barrier, and a one-row filter."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from drone_cbf.reporting.obstacles import Capsules, Obstacles
from drone_cbf.reporting.records import BarrierSlice, Flight

DRONE_RADIUS = 0.12
MARGIN, REACTION, BRAKING, GAIN = 0.1, 0.15, 5.0, 2.0
MakeFlight = Callable[..., Flight]


def spheres(seed: int = 0, count: int = 22, slots: int = 28) -> Obstacles:
    """A random cloud in a box of half size (3, 3, 1.2) m, with unused slots."""
    draw = np.random.default_rng(seed)
    centre = draw.uniform([-3, -3, -1.2], [3, 3, 1.2], (slots, 3))
    return Obstacles(Capsules(centre, draw.uniform(0.1, 0.35, slots), np.zeros(slots), np.arange(slots) < count))


def forest(seed: int = 0) -> Obstacles:
    """Trunks 16 m tall on a jittered grid."""
    draw = np.random.default_rng(seed)
    x, y = np.meshgrid(np.arange(-6.0, 7.0, 3.0), np.arange(-4.5, 5.0, 3.0))
    centre = np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], -1)
    centre[:, :2] += draw.uniform(-0.8, 0.8, (len(centre), 2))
    count = len(centre)
    return Obstacles(Capsules(centre, draw.uniform(0.15, 0.4, count), np.full(count, 8.0), np.ones(count, bool)))


def surface(obstacles: Obstacles, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance to each active obstacle's surface, and the unit vector away from it."""
    table = obstacles.capsules.table()
    offset = position - table[:, :3]
    offset[:, 2] -= np.clip(offset[:, 2], -table[:, 4], table[:, 4])
    length = np.linalg.norm(offset, axis=-1)
    return length - table[:, 3], offset / np.maximum(length, 1e-9)[:, None]


def braking_barrier(obstacles: Obstacles, position: np.ndarray, velocity: np.ndarray) -> float:
    distance, away = surface(obstacles, position)
    closing = np.logaddexp(0.0, -8.0 * away @ velocity) / 8.0
    values = distance - DRONE_RADIUS - MARGIN - REACTION * closing - closing**2 / (2 * BRAKING)
    return float(-0.03 * np.log(np.exp(-(values - values.min()) / 0.03).sum()) + values.min())


def filter_command(obstacles: Obstacles, p: np.ndarray, v: np.ndarray, nominal: np.ndarray) -> np.ndarray:
    """One CBF row by finite differences, projected."""
    eye = np.eye(3) * 1e-4
    slope_p = (
        np.array([braking_barrier(obstacles, p + e, v) - braking_barrier(obstacles, p - e, v) for e in eye]) / 2e-4
    )
    slope_v = (
        np.array([braking_barrier(obstacles, p, v + e) - braking_barrier(obstacles, p, v - e) for e in eye]) / 2e-4
    )
    short = -GAIN * braking_barrier(obstacles, p, v) - slope_p @ v - slope_v @ nominal
    return nominal + max(0.0, short) * slope_v / max(slope_v @ slope_v, 1e-6)


@pytest.fixture
def make_flight() -> MakeFlight:
    return fly


def fly(
    name: str = "flight 1", obstacles: Obstacles | None = None, start=(-4.0, 0.2, 0.0), goal=(4.0, 0.0, 0.2),
    steps: int = 140, filtered: bool = True, speed: float = 3.0, seed: int = 0, **changes,
) -> Flight:  # fmt: skip
    obstacles = spheres() if obstacles is None else obstacles
    draw, step, limit = np.random.default_rng(seed), 0.05, np.array([9.0, 9.0, 7.0])
    p, v, goal = np.array(start, float), np.zeros(3), np.array(goal, float)
    rows: dict[str, list] = {key: [] for key in ("position", "velocity", "command", "nominal", "barrier", "clearance")}
    for _ in range(steps):
        to_goal = goal - p
        wanted = to_goal * min(1.2, speed / max(np.linalg.norm(to_goal), 1e-9)) + np.array([0.0, 0.2, 0.1]) * filtered
        nominal = np.clip(3.0 * (wanted - v), -limit, limit) + draw.normal(0, 0.05, 3)
        command = np.clip(filter_command(obstacles, p, v, nominal) if filtered else nominal, -limit, limit)
        swept = min(surface(obstacles, p + s * step * v)[0].min() for s in (0.0, 0.5, 1.0)) - DRONE_RADIUS
        for key, value in zip(rows, (p, v, command, nominal, braking_barrier(obstacles, p, v), swept), strict=True):
            rows[key].append(value)
        p, v = p + step * v + 0.5 * step**2 * command, v + step * command
    record = {key: np.array(value) for key, value in rows.items()}
    record["position"] = np.vstack([record["position"], p])
    record["velocity"] = np.vstack([record["velocity"], v])
    record |= {
        "name": name, "time_step": step, "analytic_barrier": record["barrier"], "goal": goal, "obstacles": obstacles,
        "barrier": record["barrier"] - 0.01 + 0.02 * np.sin(np.arange(steps) / 5.0), "drone_radius": DRONE_RADIUS,
        "slack": np.zeros(steps), "status": np.zeros(steps, int), "filtered": filtered, "noise": 0.02,
        "collided": bool((record["clearance"] < 0).any()), "reached": bool(np.linalg.norm(p - goal) < 0.2),
    }  # fmt: skip
    return Flight(**record | changes)


@pytest.fixture
def barrier_slice() -> BarrierSlice:
    return slice_of(spheres())


def slice_of(obstacles: Obstacles, velocity=(2.0, 0.5, 0.0), points: int = 61, **changes) -> BarrierSlice:
    x, y = np.linspace(-3.5, 3.5, points), np.linspace(-3.0, 3.0, points - 6)
    velocity = np.array(velocity, float)
    analytic = np.array([[braking_barrier(obstacles, np.array([a, b, 0.1]), velocity) for a in x] for b in y])
    waves = 0.012 * np.sin(2 * x)[None] * np.cos(3 * y)[:, None] + 0.03 * np.minimum(analytic, 0.0)
    record = {
        "x": x, "y": y, "analytic": analytic, "neural": analytic + waves, "velocity": velocity, "height": 0.1,
        "obstacles": obstacles, "drone_radius": DRONE_RADIUS,
    }  # fmt: skip
    return BarrierSlice(**record | changes)
