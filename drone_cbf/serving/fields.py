"""Names of what a served policy is asked and what it answers, and refusals of names that are not among them."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from drone_cbf.config import SensorConfig, SystemConfig
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
    "image": "depth along the axis of a level camera, at least 0 [m], rows from the top, columns from the left, with "
    "the field of view of the evaluation (perception/depth.py); for a pixel without a return a depth beyond the range, "
    "for one that is not known 0, which counts as something very near: the model's rows times columns",
    "yaw": "where the camera looks, anticlockwise from the x axis [rad]: 1 number",
    "point_velocities": "of the points [m/s]: n times 3 numbers; left out: the points stand still",
    "point_spread": "standard deviation of each point's error relative to the drone, along any axis, at least 0 [m]: n "
    "numbers; the filter keeps that much more room. Left out: the points are exact",
    "noise": "standard deviation of the measured position and velocity and of the points, along any axis, at least 0 "
    "[m, m/s]: 1 number; left out: they are exact",
    "others": "centres of the other drones that are perceived, world frame [m]: k times 3 numbers; any k, the same for "
    "a whole batch, none where nobody is near; the nearest ones within the sensing radius count",
    "other_velocities": "of the other drones [m/s]: k times 3 numbers",
    "other_mask": "true for the other drones that are there; what is masked out may hold anything: k times true or "
    "false; left out: all are",
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
    **dict.fromkeys(("others", "other_velocities"), ("batch", "k", 3)),
    "other_mask": ("batch", "k"),
    **dict.fromkeys(("noise", "yaw"), ("batch",)),
    "image": ("batch", "rows", "columns"),
    "queue": ("batch", "q", 3),
    "memory": ("batch", "m"),
}
MASKED_BY = {
    **dict.fromkeys(("points", "point_velocities", "point_spread"), "mask"),
    **dict.fromkeys(("others", "other_velocities"), "other_mask"),
}
"""Field with an entry for each point or other drone -> the one that says which of them are there."""
LARGEST = {
    # m; in float64 a position of this size is known to 1e-7 m
    **dict.fromkeys(("position", "goal", "image", "others"), 1e9),
    # m/s: far beyond what the model of drag describes
    **dict.fromkeys(("velocity", "point_velocities", "other_velocities"), 200.0),
    **dict.fromkeys(("thrust", "queue"), 1e4),  # m/s^2
    **dict.fromkeys(("noise", "point_spread"), 1e4),  # m
    "yaw": 1e4,  # rad
}
"""Largest magnitude of a number of each field: what is larger is a mistake, and its squares would leave float32."""


@dataclass(frozen=True)
class Fields:
    """What a policy is asked with, by what it sees."""

    required: tuple[str, ...]
    optional: tuple[str, ...]


OF_POINTS = Fields(REQUIRED, OPTIONAL)
OF_IMAGES = Fields(("position", "velocity", "goal", "image", "yaw"), ("noise", "thrust", "queue", "memory"))
"""A camera's points and their errors follow from its image."""


def among_others(fields: Fields) -> Fields:
    """``fields`` of a policy that flies in a swarm."""
    return Fields((*fields.required, "others", "other_velocities"), (*fields.optional, "other_mask"))


def fields_of(system: SystemConfig) -> Fields:
    """What a policy is asked with that was evaluated in ``system``."""
    fields = OF_IMAGES if system.sensor.kind == "depth" else OF_POINTS
    return among_others(fields) if other_slots(system) else fields


def other_slots(system: SystemConfig) -> int:
    """How many other drones a policy perceives that was evaluated in ``system``; 0: it flies alone."""
    return system.sensor.drones if system.scene.drones > 1 else 0


def image_size(sensor: SensorConfig) -> tuple[int, int] | None:
    """Rows and columns of the image that is sent; None for sensors of points."""
    return (sensor.depth_height, sensor.depth_width) if sensor.kind == "depth" else None


def check_names(names: Iterable[str], fields: Fields = OF_POINTS) -> None:
    """Raises ObservationError if a name is unknown, offering the nearest one, or a required field is missing."""
    known = (*fields.required, *fields.optional)
    given, needed = list(names), ", ".join(fields.required)
    for name in given:
        if name not in known and name in MEANING:
            raise ObservationError(f"{name} is not what this policy sees by; remove it, and send {needed}")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            offer = f"did you mean {near[0]}?" if near else "remove it."
            raise ObservationError(f"{name} is no field of an observation; {offer} The fields: {', '.join(known)}")
    for name in fields.required:
        if name not in given:
            raise ObservationError(f"{name} is missing ({MEANING[name]}); send {needed}")


def example_observations(image: tuple[int, int] | None = None, *, swarm: bool = False) -> dict[str, np.ndarray]:
    """A batch of one: flying at 3 m/s towards a surface 1.5 m ahead, with the goal behind it.

    ``image``: rows and columns, for a policy that sees by a camera. ``swarm``: another drone comes near, from ahead and
    above.
    """
    own = {
        "position": np.array([[0.0, 0.0, 1.0]]),
        "velocity": np.array([[3.0, 0.0, 0.0]]),
        "goal": np.array([[8.0, 0.0, 1.0]]),
    }
    if swarm:
        own |= {"others": np.array([[[0.4, 0.0, 1.2]]]), "other_velocities": np.array([[[-1.0, 0.0, 0.0]]])}
    if image is not None:
        return {**own, "image": np.full((1, *image), 1.5), "yaw": np.array([0.0])}
    return {
        **own,
        "points": np.array([[[1.5, 0.0, 1.0], [0.0, 2.0, 1.0]]]),
        "mask": np.array([[True, True]]),
    }
