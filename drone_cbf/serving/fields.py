"""Names of what a served policy is asked and what it answers, and refusals of names that are not among them."""

import difflib
from collections.abc import Iterable

import numpy as np

from drone_cbf.errors import ObservationError

REQUIRED = ("position", "velocity", "goal", "points", "mask")
OPTIONAL = ("point_velocities", "point_spread", "noise", "thrust", "queue", "memory")
MEANING = {
    "position": "of the drone, world frame [m]: 3 numbers",
    "velocity": "of the drone [m/s]: 3 numbers",
    "goal": "where to fly, world frame [m]: 3 numbers",
    "points": "what a range sensor hit, without labels, world frame [m]: n times 3 numbers; any n, the same for a "
    "whole batch; for rays without a return a point beyond the sensing radius",
    "mask": "true for the points that are seen; what is masked out may hold anything: n times true or false",
    "point_velocities": "of the points [m/s]: n times 3 numbers; left out: the points stand still",
    "point_spread": "standard deviation of each point's error relative to the drone, along any axis, at least 0 [m]: n "
    "numbers; the filter keeps that much more room. Left out: the points are exact",
    "noise": "standard deviation of the measured position and velocity and of the points, along any axis, at least 0 "
    "[m, m/s]: 1 number; left out: they are exact",
    "thrust": "acceleration that the rotors produce now, gravity compensated [m/s^2]: 3 numbers; left out: as "
    "remembered from the commands answered, hovering at the start of a flight",
    "queue": "commands sent that have not acted yet, newest first [m/s^2]: q times 3 numbers, at least as many as the "
    "transport delay holds, more are ignored; left out: those answered before, as remembered",
    "memory": "`memory` of the last answer of the same flight, unchanged; left out or null: a new flight",
}
"""Meaning of each field of an observation; the first axis of every field is the batch."""
SHAPES: dict[str, tuple[str | int, ...]] = {
    **dict.fromkeys(("position", "velocity", "goal", "thrust"), ("batch", 3)),
    **dict.fromkeys(("points", "point_velocities"), ("batch", "n", 3)),
    **dict.fromkeys(("mask", "point_spread"), ("batch", "n")),
    "noise": ("batch",),
    "queue": ("batch", "q", 3),
    "memory": ("batch", "m"),
}
PER_POINT = ("points", "point_velocities", "point_spread")
LARGEST = {
    **dict.fromkeys(("position", "goal"), 1e9),  # m; in float64 a position of this size is known to 1e-7 m
    **dict.fromkeys(("velocity", "point_velocities"), 200.0),  # m/s: far beyond what the model of drag describes
    **dict.fromkeys(("thrust", "queue"), 1e4),  # m/s^2
    **dict.fromkeys(("noise", "point_spread"), 1e4),  # m
}
"""Largest magnitude of a number of each field: what is larger is a mistake, and its squares would leave float32."""


def check_names(names: Iterable[str]) -> None:
    """Raises ObservationError if a name is unknown, offering the nearest one, or a required field is missing."""
    known = (*REQUIRED, *OPTIONAL)
    given = list(names)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            offer = f"did you mean {near[0]}?" if near else "remove it."
            raise ObservationError(f"{name} is no field of an observation; {offer} The fields: {', '.join(known)}")
    for name in REQUIRED:
        if name not in given:
            raise ObservationError(f"{name} is missing ({MEANING[name]}); send {', '.join(REQUIRED)}")


def example_observations() -> dict[str, np.ndarray]:
    """A batch of one: flying at 3 m/s towards a surface 1.5 m ahead, with the goal behind it."""
    return {
        "position": np.array([[0.0, 0.0, 1.0]]),
        "velocity": np.array([[3.0, 0.0, 0.0]]),
        "goal": np.array([[8.0, 0.0, 1.0]]),
        "points": np.array([[[1.5, 0.0, 1.0], [0.0, 2.0, 1.0]]]),
        "mask": np.array([[True, True]]),
    }
