"""A scene of every shape: a wall with a window, a crate, a beam, a sphere and a crate that move, and the ground."""

import numpy as np

from drone_cbf.reporting.obstacles import Boxes, Capsules, Cylinders, Obstacles
from drone_cbf.reporting.records import Flight

GROUND = 0.0
WINDOW = {"y": (-0.7, 0.7), "z": (0.9, 2.3)}  # opening of the wall at x = 0 [m]


def turned(heading: float, tilt: float = 0.0) -> np.ndarray:
    """Rotation about z by ``heading``, after one about x by ``tilt`` [rad]."""
    c, s, u, v = np.cos(heading), np.sin(heading), np.cos(tilt), np.sin(tilt)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, u, -v], [0, v, u]])


def boxes() -> Boxes:
    """Left, right, sill and lintel of the wall; a tilted crate; a crate that moves along y; an unused slot."""
    centre = [[0, -2.35, 1.6], [0, 2.35, 1.6], [0, 0, 0.45], [0, 0, 2.75], [-3, -1.3, 0.8], [2.6, -1.6, 1.6], [9, 9, 9]]
    half = [[0.1, 1.65, 1.6], [0.1, 1.65, 1.6], [0.1, 0.7, 0.45], [0.1, 0.7, 0.45], [0.5, 0.3, 0.4], [0.3] * 3, [1] * 3]
    rotation = np.stack([np.eye(3)] * 4 + [turned(0.6, 0.5), turned(0.8), np.eye(3)])
    velocity = np.zeros((7, 3))
    velocity[5] = [0.0, 0.8, 0.0]
    return Boxes(np.array(centre, float), np.array(half, float), rotation, np.arange(7) < 6, velocity)


def every_shape() -> Obstacles:
    """All of it."""
    balls = np.array([[-2.0, 1.4, 1.5], [1.5, 1.5, 0.0], [4.0, 1.2, 1.8]])
    velocity = np.array([[0, 0, 0], [0, 0, 0], [-0.6, -0.2, 0.0]])
    capsules = Capsules(balls, np.array([0.35, 0.2, 0.25]), np.array([0, 9.0, 0]), np.ones(3, bool), velocity)
    beam = np.array([[-1.6, 0.2, 2.2], [3.2, 0.0, 0.7]])
    cylinders = Cylinders(beam, np.array([1.4, 1.8]), np.array([2.0, 1.5]), np.array([0.12, 0.2]), np.ones(2, bool))
    return Obstacles(capsules, boxes(), cylinders, GROUND)


def distance(obstacles: Obstacles, points: np.ndarray) -> np.ndarray:
    """Signed distance of points (N, 3) to each active solid, capsules, boxes, cylinders [m], (A, N); no ground."""
    found = []
    for x, y, z, radius, half in obstacles.capsules.table():
        offset = points - [x, y, z]
        offset[:, 2] -= np.clip(offset[:, 2], -half, half)
        found.append(np.linalg.norm(offset, axis=-1) - radius)
    boxes, beams = obstacles.boxes, obstacles.cylinders
    for k in np.flatnonzero(boxes.active):
        beyond = np.abs((points - boxes.centre[k]) @ boxes.rotation[k]) - boxes.half_size[k]
        found.append(np.linalg.norm(np.maximum(beyond, 0), axis=-1) + np.minimum(beyond.max(-1), 0))
    for k in np.flatnonzero(beams.active):
        axis = np.array([np.cos(beams.heading[k]), np.sin(beams.heading[k]), 0.0])
        offset = points - beams.centre[k]
        along = offset @ axis
        around = np.linalg.norm(offset - along[:, None] * axis, axis=-1)
        beyond = np.stack([np.abs(along) - beams.half_length[k], around - beams.radius[k]], axis=-1)
        found.append(np.linalg.norm(np.maximum(beyond, 0), axis=-1) + np.minimum(beyond.max(-1), 0))
    return np.array(found)


def through_the_window(steps: int = 100, **changes) -> Flight:
    """A smooth flight over 9 m through the middle of the window; its commands are those of the path."""
    step, share = 0.05, np.linspace(0.0, 1.0, steps + 1)
    along = -4.5 + 9.0 * (3 * share**2 - 2 * share**3)
    position = np.column_stack([along, 0.35 * np.sin(0.7 * along), 1.6 + 0.3 * np.sin(0.9 * along)])
    velocity = np.gradient(position, step, axis=0)
    command = np.diff(velocity, axis=0) / step
    nominal = command + np.where(np.abs(position[:-1, :1]) < 1.0, 0.4, 0.0)
    gap = np.abs(position[:-1, 0]) + 0.3
    record = {
        "name": "window", "time_step": step, "position": position, "velocity": velocity, "command": command,
        "nominal": nominal, "barrier": gap - 0.1, "analytic_barrier": gap, "clearance": gap, "slack": np.zeros(steps),
        "status": np.zeros(steps, int), "goal": position[-1] + 0.05, "obstacles": every_shape(), "drone_radius": 0.12,
        "reached": True, "collided": False,
    }  # fmt: skip
    return Flight(**record | changes)
