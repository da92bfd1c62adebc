"""Validation of raw observations, with error messages for the caller."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float

from drone_cbf.arrays import Vector
from drone_cbf.errors import ObservationError

REQUIRED = ("position", "velocity", "goal", "points", "mask")
OPTIONAL = ("point_velocities", "point_spread", "thrust", "queue")
MEANING = {
    "position": "of the drone, world frame [m]: 3 numbers",
    "velocity": "of the drone [m/s]: 3 numbers",
    "goal": "where to fly, world frame [m]: 3 numbers",
    "points": "surface points seen, world frame [m]: n times 3 numbers; any n, the same for a whole batch",
    "mask": "true for the points that are seen; what is masked out may hold anything: n times true or false",
    "point_velocities": "of the points [m/s]: n times 3 numbers; left out: the points stand still",
    "point_spread": "standard deviation of each point's error relative to the drone, along any axis, at least 0 [m]: n "
    "numbers; the filter keeps that much more room. Left out: the points are exact",
    "thrust": "acceleration that the rotors produce now, gravity compensated [m/s^2]: 3 numbers; left out: hovering",
    "queue": "commands sent that have not acted yet, newest first [m/s^2]: q times 3 numbers; left out: none",
}
"""Meaning of each field of an observation; the first axis of every field is the batch."""
_PER_POINT = ("points", "point_velocities", "point_spread")


@struct.dataclass
class Observation:
    """Observation of one step; fields as in :data:`MEANING`."""

    position: Vector  # [m]
    velocity: Vector  # [m/s]
    goal: Vector  # [m]
    points: Float[Array, "n 3"]  # [m]
    mask: Bool[Array, "n"]  # True for points that are seen
    point_velocities: Float[Array, "n 3"]  # [m/s]
    point_spread: Float[Array, "n"]  # [m]
    thrust: Vector  # [m/s^2]
    queue: Float[Array, "q 3"]  # Newest first [m/s^2]


def check_observations(fields: Mapping[str, Any], queue_length: int) -> Observation:
    """The batch of observations in ``fields``: arrays or nested lists by name, first axis the batch.

    ``queue_length`` is the number of commands in the drone's transport delay. Masked-out points become zero.

    Raises:
        ObservationError: a field is missing, has a wrong shape or type, or is not finite where it is used.
    """
    for name in REQUIRED:
        if name not in fields:
            raise ObservationError(f"{name} is missing ({MEANING[name]}); send {', '.join(REQUIRED)}")
    position = _numbers("position", fields["position"], (None, 3))
    batch = position.shape[0]
    if batch == 0:
        raise ObservationError("the batch is empty; send at least one observation")
    mask = _mask(fields["mask"], batch)
    of_points = (batch, mask.shape[1])
    shapes = dict.fromkeys(("velocity", "goal", "thrust"), (batch, 3)) | {"queue": (batch, queue_length, 3)}
    shapes |= {"points": (*of_points, 3), "point_velocities": (*of_points, 3), "point_spread": of_points}
    arrays: dict[str, Any] = {"position": position, "mask": mask}
    for name in (*REQUIRED, *OPTIONAL):
        if name in arrays:
            continue
        given = fields.get(name)
        arrays[name] = np.zeros(shapes[name], np.float32) if given is None else _numbers(name, given, shapes[name])
    for name, values in arrays.items():
        arrays[name] = _finite(name, values, mask)
    if np.any(arrays["point_spread"] < 0.0):
        raise ObservationError(f"point_spread holds {arrays['point_spread'].min()}, expected at least 0 (0: exact)")
    return Observation(**arrays)


def _mask(value: Any, batch: int) -> np.ndarray:
    array = _array("mask", value)
    if array.size == 0 and array.ndim == 2:
        array = array.astype(bool)  # an empty list has no type of its own
    if array.dtype != bool:
        raise ObservationError(f"mask holds {_kind(array)}, expected true or false for each point")
    if array.ndim != 2 or array.shape[0] != batch:
        raise ObservationError(f"mask has shape {_text(array.shape)}, expected ({batch}, n): one row per observation")
    return array


def _numbers(name: str, value: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    """``value`` as float32 of ``shape``, in which None stands for any length."""
    array = _array(name, value)
    if array.dtype.kind not in "fiu":
        raise ObservationError(f"{name} holds {_kind(array)}, expected numbers: {MEANING[name]}")
    if array.size == 0 and 0 in shape:
        array = array.reshape([length or 0 for length in shape])  # no points: [[]] stands for (1, 0, 3)
    wrong = array.ndim != len(shape) or any(
        want not in (None, have) for want, have in zip(shape, array.shape, strict=False)
    )
    if wrong:
        wanted = ", ".join("batch" if length is None else str(length) for length in shape)
        raise ObservationError(
            f"{name} has shape {_text(array.shape)}, expected ({wanted}) ({MEANING[name]}); "
            "the first axis is the batch: one observation is a batch of one"
        )
    with np.errstate(over="ignore"):  # values beyond float32 become infinite and are refused below
        return array.astype(np.float32)


def _array(name: str, value: Any) -> np.ndarray:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ObservationError(
            f"{name} is ragged: every observation of a batch must have the same number of entries; "
            "fill up with points that are masked out"
        ) from error
    return array


def _finite(name: str, values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """``values`` with masked-out points set to zero; the rest must be finite."""
    if name in _PER_POINT:
        values = np.where(mask.reshape(mask.shape + (1,) * (values.ndim - 2)), values, np.float32(0.0))
    if values.dtype != bool and not np.isfinite(values).all():
        index = tuple(map(int, np.argwhere(~np.isfinite(values))[0]))
        remedy = "mask out points that are not seen" if name in _PER_POINT else "send a finite number"
        raise ObservationError(f"{name}{list(index)} = {values[index]} is not finite in float32; {remedy}")
    return values


def _kind(array: np.ndarray) -> str:
    return {"b": "true or false", "U": "text", "O": "mixed values or none", "c": "complex numbers"}.get(
        array.dtype.kind, f"values of type {array.dtype}"
    )


def _text(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))})"


def example_observations() -> dict[str, np.ndarray]:
    """A batch of one: flying at 3 m/s towards a surface 1.5 m ahead, with the goal behind it."""
    return {
        "position": np.array([[0.0, 0.0, 1.0]]),
        "velocity": np.array([[3.0, 0.0, 0.0]]),
        "goal": np.array([[8.0, 0.0, 1.0]]),
        "points": np.array([[[1.5, 0.0, 1.0], [0.0, 2.0, 1.0]]]),
        "mask": np.array([[True, True]]),
    }
