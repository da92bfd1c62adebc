"""Validation of raw observations, with error messages for the caller."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from drone_cbf.errors import ObservationError
from drone_cbf.serving.conversion import shape_text, to_array, to_rows, wrong_shape
from drone_cbf.serving.fields import (
    LARGEST,
    MASKED_BY,
    MEANING,
    OF_IMAGES,
    OF_POINTS,
    SHAPES,
    Fields,
    among_others,
    check_names,
)

_POSITIONS = ("position", "goal", "points", "others")  # in the world frame, whose origin may be far away: float64

MOST_POINTS = 1 << 24
"""Points or pixels of a whole request: points take 400 MB of float64."""
_LEAST_MEANS = {"noise": "exact", "point_spread": "exact", "image": "not known"}  # what 0 means: none is negative


@dataclass(frozen=True)
class Request:
    """A checked batch of b observations; fields as in :data:`drone_cbf.serving.fields.MEANING`."""

    position: np.ndarray  # (b, 3) float64 [m]
    velocity: np.ndarray  # (b, 3) float32 [m/s]
    goal: np.ndarray  # (b, 3) float64 [m]
    points: np.ndarray  # (b, n, 3) float64 [m]; may be of any size, finite
    mask: np.ndarray  # (b, n) bool: True for points that are seen
    point_velocities: np.ndarray | None  # (b, n, 3) float32 [m/s]; None: at rest
    point_spread: np.ndarray | None  # (b, n) float32 [m]; None: exact
    noise: np.ndarray  # (b,) float32 [m, m/s]
    thrust: np.ndarray | None  # (b, 3) float32 [m/s^2]; None: not told
    queue: np.ndarray | None  # (b, q, 3) float32, newest first [m/s^2]; None: not told
    memory: list[Any] | None  # b rows as sent, None for a new flight; None: b new flights
    image: np.ndarray | None = None  # (b, r, c) float32 [m]; None: the sensor is not a camera, else there are no points
    yaw: np.ndarray | None = None  # (b,) float32 [rad]; likewise
    others: np.ndarray | None = None  # (b, k, 3) float64 [m]; None: the policy flies alone
    other_velocities: np.ndarray | None = None  # (b, k, 3) float32 [m/s]; likewise
    other_mask: np.ndarray | None = None  # (b, k) bool: True for those that are there; likewise


def check_observations(
    fields: Mapping[str, Any], queue_length: int, image: tuple[int, int] | None = None, *, swarm: bool = False
) -> Request:
    """The batch of observations in ``fields``: arrays or nested lists by name, first axis the batch.

    ``queue_length`` is the number of commands in the drone's transport delay; ``image`` rows and columns of the image
    of a policy that sees by a camera, None for one that sees points; ``swarm``: it is told of other drones.

    Raises:
        ObservationError: a name is unknown, a field is missing, has a wrong shape or type, is not finite where it is
            used, or out of range (:data:`drone_cbf.serving.fields.LARGEST`).
    """
    names = OF_POINTS if image is None else OF_IMAGES
    names = among_others(names) if swarm else names
    given = _given(fields, names)
    batch = _numbers("position", given["position"], ("batch", 3)).shape[0]
    _check_size(batch, given)
    masks = {"mask": _mask("mask", given["mask"], batch) if image is None else np.zeros((batch, 0), bool)}
    sizes: dict[str | int, int] = {"batch": batch, "n": masks["mask"].shape[1]}
    if swarm:
        masks["other_mask"] = _others_there(given, batch)
        sizes["k"] = masks["other_mask"].shape[1]
    arrays: dict[str, Any] = {}
    if image is not None:
        sizes |= {"rows": image[0], "columns": image[1]}
        arrays |= {"points": np.zeros((batch, 0, 3)), "point_velocities": None, "point_spread": None}
    for name in (*names.required, *names.optional):
        if name not in ("mask", "other_mask", "memory"):
            shape = tuple(sizes.get(length, length) for length in SHAPES[name])
            array, mask = given.get(name), masks.get(MASKED_BY.get(name, ""))
            arrays[name] = None if array is None else _checked(name, _numbers(name, array, shape), mask)
    arrays["queue"] = _queue(arrays["queue"], batch, queue_length)
    arrays["noise"] = np.zeros(batch, np.float32) if arrays["noise"] is None else arrays["noise"]
    return Request(**arrays, **masks, memory=_memory(fields.get("memory"), batch))


def _given(fields: Mapping[str, Any], names: Fields) -> dict[str, Any]:
    """What was sent as arrays of any type and shape, but for the memory; None for what is null."""
    check_names(fields, names)
    given = {name: None if name == "memory" else to_array(name, value) for name, value in fields.items()}
    for name in names.required:
        if given[name] is None:
            raise ObservationError(f"{name} is null ({MEANING[name]}); send {', '.join(names.required)}")
    return given


def _check_size(batch: int, given: Mapping[str, Any]) -> None:
    for name, parts in (("mask", "points"), ("image", "pixels"), ("others", "coordinates of other drones")):
        if name in given and given[name].size > MOST_POINTS:
            raise ObservationError(
                f"the batch holds {given[name].size:,} {parts}, at most {MOST_POINTS:,}; send less at once"
            )
    if batch == 0:
        raise ObservationError("the batch is empty; send at least one observation")


def _mask(name: str, array: np.ndarray, batch: int) -> np.ndarray:
    length = SHAPES[name][1]
    if array.size == 0 and array.ndim == 2:
        array = array.astype(bool)  # an empty list has no type of its own
    if array.dtype != bool:
        each = {"n": "point", "k": "other drone"}[str(length)]
        raise ObservationError(f"{name} holds {_kind(array)}, expected true or false for each {each}")
    if array.ndim != 2 or array.shape[0] != batch:
        raise wrong_shape(name, array, (batch, length))
    return array


def _others_there(given: Mapping[str, Any], batch: int) -> np.ndarray:
    """Which of the other drones are there (b, k)."""
    if given.get("other_mask") is not None:
        return _mask("other_mask", given["other_mask"], batch)
    others = _numbers("others", given["others"], (batch, "k" if given["others"].size else 0, 3))
    return np.ones(others.shape[:2], bool)


def _numbers(name: str, array: np.ndarray, shape: tuple[int | str, ...]) -> np.ndarray:
    """``array`` in the type of its field, if it is of ``shape``, in which a word stands for any length."""
    if array.dtype.kind not in "fiu":
        raise ObservationError(f"{name} holds {_kind(array)}, expected numbers: {MEANING[name]}")
    if array.size == 0 and 0 in shape:
        array = array.reshape([length if isinstance(length, int) else 0 for length in shape])  # [[]]: no points
    if array.ndim != len(shape) or any(
        isinstance(want, int) and want != have for want, have in zip(shape, array.shape, strict=True)
    ):
        raise wrong_shape(name, array, shape)
    with np.errstate(over="ignore"):  # values beyond float32 become infinite and are refused as out of range
        return array.astype(np.float64 if name in _POSITIONS else np.float32, copy=False)


def _checked(name: str, values: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """``values`` without NaN in masked-out entries, refused if anything else is not finite or out of range."""
    largest = LARGEST.get(name, np.finfo(np.float64).max)
    if values.size == 0 or np.abs(values).max() <= largest:  # false for NaN
        fine = values
    else:
        seen = np.True_ if mask is None else mask.reshape(mask.shape + (1,) * (values.ndim - 2))
        fine = np.where(seen, values, values.dtype.type(0.0))
        if not np.all(np.abs(fine) <= largest):
            raise _not_usable(name, fine, largest)
    if name in _LEAST_MEANS and fine.size and fine.min() < 0.0:
        if mask is not None:  # point_spread
            fine = np.where(mask, fine, np.float32(0.0))
        if fine.min() < 0.0:
            raise ObservationError(f"{name} holds {fine.min()}, expected at least 0 (0: {_LEAST_MEANS[name]})")
    return fine


def _not_usable(name: str, values: np.ndarray, largest: float) -> ObservationError:
    index = tuple(map(int, np.argwhere(~(np.abs(values) <= largest))[0]))
    place, value = f"{name}{list(index)} = {values[index]}", values[index]
    if np.isfinite(value) or name not in MASKED_BY:
        finite = "is out of range" if not np.isnan(value) else "is not finite"
        least = 0.0 if name in _LEAST_MEANS else -largest
        return ObservationError(f"{place} {finite}; send a finite number between {least:g} and {largest:g}")
    remedy = "points that are not seen" if MASKED_BY[name] == "mask" else "drones that are not there by other_mask"
    return ObservationError(f"{place} is not finite; mask out {remedy}")


def _queue(queue: np.ndarray | None, batch: int, length: int) -> np.ndarray | None:
    """The ``length`` newest commands, which are those that the transport delay holds."""
    if queue is None:
        return None
    if queue.shape[1] < length:
        raise ObservationError(
            f"queue has shape {shape_text(queue.shape)}, expected at least ({batch}, {length}, 3): the transport delay "
            f"of this drone holds {length} commands; send the newest {length}, zeros for those before the flight"
        )
    return queue[:, :length]


def _memory(value: Any, batch: int) -> list[Any] | None:
    rows = to_rows(value)
    if rows is not None and len(rows) != batch:
        raise ObservationError(
            f"memory has {len(rows)} rows, expected {batch}: one per observation ({MEANING['memory']}); "
            "the first axis is the batch: send one observation as [[...]]"
        )
    return rows


def _kind(array: np.ndarray) -> str:
    return {"b": "true or false", "U": "text", "O": "mixed values or none", "c": "complex numbers"}.get(
        array.dtype.kind, f"values of type {array.dtype}"
    )
