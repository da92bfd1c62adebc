"""Fly a registered policy in a 20 Hz control loop, as a robot would: observations in, safe commands out.

The policy is loaded with plain MLflow and knows nothing of this little world: two pillars, and a drone with a lag of
80 ms. Needs a registered policy: mlflow run . -e register -P run=<pipeline run>, then -e gate -P promote=true.

    python examples/fly.py                                  the champion
    python examples/fly.py models:/drone-policy/3           version 3
    python examples/fly.py runs:/<register run>/drone-policy  the model that this run has logged
"""

from __future__ import annotations

import sys
import time

import mlflow
import numpy as np

TIME_STEP = 0.05  # [s]: 20 Hz
LAG = 1.0 - np.exp(-TIME_STEP / 0.08)  # share of a command that the rotors reach within a step
DRAG = 0.3  # [1/s]
PILLARS = np.array([[2.0, 0.3], [4.0, -0.4]])  # x, y [m]
RADIUS = 0.3  # [m]
GOAL = np.array([6.0, 0.0, 1.0])  # [m]


def surface_points(position: np.ndarray) -> np.ndarray:
    """The nearest point of each pillar's surface, which is what a depth sensor would report [m], (2, 3)."""
    offset = position[:2] - PILLARS
    nearest = PILLARS + RADIUS * offset / np.linalg.norm(offset, axis=1, keepdims=True)
    return np.column_stack([nearest, np.full(len(PILLARS), position[2])])


def fly(model_uri: str = "models:/drone-policy@champion", seconds: float = 8.0, real_time: bool = True) -> np.ndarray:
    """One flight; returns the path [m], (steps + 1, 3)."""
    model = mlflow.pyfunc.load_model(model_uri)
    position, velocity, thrust = np.array([0.0, 0.0, 1.0]), np.zeros(3), np.zeros(3)
    queue = np.zeros((2, 3))  # commands that have not acted yet, newest first: the radio link takes one step
    path, memory = [position], None
    for step in range(round(seconds / TIME_STEP)):
        started = time.monotonic()
        observation = {
            "position": position,
            "velocity": velocity,
            "goal": GOAL,
            "points": surface_points(position),
            "mask": np.ones(len(PILLARS), bool),
            "thrust": thrust,
            "queue": queue,
        }
        batch = {name: value[None] for name, value in observation.items()}  # of one
        answer = model.predict({**batch, "memory": memory})
        memory = answer["memory"]
        if step % 10 == 0:
            gap = np.linalg.norm(surface_points(position) - position, axis=1).min()
            h, status, left = answer["h"][0], answer["status"][0], np.linalg.norm(GOAL - position)
            print(f"{step * TIME_STEP:4.1f} s  goal {left:4.1f} m  surface {gap:4.2f} m  h {h:+5.2f} m  {status}")
        queue = np.stack([answer["command"][0], queue[0]])
        thrust = thrust + LAG * (queue[1] - thrust)
        velocity = velocity + TIME_STEP * (thrust - DRAG * velocity)
        position = position + TIME_STEP * velocity
        path.append(position)
        if real_time:
            time.sleep(max(0.0, TIME_STEP - (time.monotonic() - started)))
    return np.stack(path)


if __name__ == "__main__":
    fly(*sys.argv[1:2])
