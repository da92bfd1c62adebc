"""A simple controller in many Gymnasium environments at once: python examples/gymnasium_flights.py [family]

Needs the extra gym (docs/gymnasium.md). A learner would take the controller's place.
"""

import sys

import gymnasium
import numpy as np

import drone_cbf

PUSH_WITHIN = 1.5  # Distance at which a point begins to push [m]


def command(seen: dict[str, np.ndarray], limit: np.ndarray) -> np.ndarray:
    """Towards the goal as a damped spring, and away from the points that are near [m/s^2]."""
    towards = seen["goal"] / np.maximum(1.0, np.linalg.norm(seen["goal"], axis=-1, keepdims=True) / 2.0)
    distance = np.maximum(np.linalg.norm(seen["points"], axis=-1, keepdims=True), 0.1)
    near = (seen["hit"][..., None] > 0) * np.maximum(0.0, PUSH_WITHIN - distance)
    push = -(near**2 * seen["points"] / distance**2).sum(axis=-2)
    return np.clip(2.0 * towards - 2.5 * seen["velocity"] + 4.0 * push, -limit, limit)


def fly(family: str = "random_cloud", drones: int = 64, steps: int = 200, seed: int = 0) -> dict[str, float]:
    """Episodes that ended within ``steps`` control periods, by how: fractions of them, and their number."""
    drone_cbf.register_gymnasium()
    environments = gymnasium.make_vec(
        f"DroneCbf/{family}-v0", num_envs=drones, vectorization_mode="vector_entry_point", horizon=steps
    )
    seen, _ = environments.reset(seed=seed)
    limit = np.array(drone_cbf.SystemConfig().physics.max_acceleration)
    ends, arrivals, collisions = 0, 0, 0
    for _ in range(steps):
        seen, _, terminated, truncated, info = environments.step(command(seen, limit) / limit)
        ends += int((terminated | truncated).sum())
        arrivals += int(info["arrived"].sum())
        collisions += int(info["collided"].sum())
    environments.close()
    return {"episodes": ends, "arrived": arrivals / max(ends, 1), "collided": collisions / max(ends, 1)}


if __name__ == "__main__":
    for name, figure in fly(*sys.argv[1:2]).items():
        print(f"{name}: {figure:.3g}")
