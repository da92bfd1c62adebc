"""Arrays from what callers send: arrays, nested lists, columns of tables, and the nested objects of Parquet files."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from drone_cbf.errors import ObservationError
from drone_cbf.serving.fields import MEANING, OPTIONAL, SHAPES

DEEPEST = 8
"""Levels of lists; a field has at most three."""


def to_array(name: str, value: Any) -> np.ndarray | None:
    """``value`` of the field ``name`` as an array whose type is not checked; None if it is absent in every row.

    Raises:
        ObservationError: rows of different lengths, or the field is given for some observations of the batch only.
    """
    array = _plain_array(value)
    if array is not None and array.dtype != object:
        return array
    rows = _unpacked(value)
    if not isinstance(rows, list):
        return None if _missing(rows) else np.asarray(rows)
    missing = [index for index, row in enumerate(rows) if _missing(row)]
    if rows and len(missing) == len(rows):
        return None
    if missing:
        alternative = ", or for none of it" if name in OPTIONAL else ""
        raise ObservationError(
            f"{name} is missing in observation {missing[0]} of the batch ({MEANING[name]}); "
            f"send it for every observation of the batch{alternative}"
        )
    array = _plain_array(rows)
    if array is None:
        kind = {"n": "points", "k": "drones"}.get(str(SHAPES[name][1]) if len(SHAPES[name]) > 1 else "")
        remedy = f"fill up with {kind} that are masked out" if kind else f"send {shape_text(SHAPES[name])}"
        raise ObservationError(
            f"{name} is ragged: every observation of a batch must have the same number of entries; {remedy}"
        )
    return array


def to_rows(value: Any) -> list[Any] | None:
    """The rows of a field that may be absent in some of them, absent ones as None; None if it is absent in all."""
    if isinstance(value, np.ndarray) and value.dtype != object and value.ndim > 1:
        return list(value)
    rows = _unpacked(value)
    if not isinstance(rows, list):
        return None if _missing(rows) else [rows]
    return None if rows and all(map(_missing, rows)) else [None if _missing(row) else row for row in rows]


def shape_text(shape: Sequence[int | str]) -> str:
    return f"({', '.join(map(str, shape))})"


def wrong_shape(name: str, array: np.ndarray, expected: Sequence[int | str]) -> ObservationError:
    """The refusal of an array of another shape; where the batch axis is missing or double, it says so."""
    depth = len(SHAPES[name])
    remedy = "the first axis is the batch"
    if array.ndim == depth - 1:
        remedy += f": send one observation as {'[' * depth}...{']' * depth}"
    elif array.ndim == depth + 1:
        remedy += ": send each record of a list or row of a table without a batch axis of its own"
    return ObservationError(
        f"{name} has shape {shape_text(array.shape)}, expected {shape_text(expected)} ({MEANING[name]}); {remedy}"
    )


def _plain_array(value: Any) -> np.ndarray | None:
    try:
        return np.asarray(value)
    except ValueError:  # ragged, or rows that are absent
        return None


def _unpacked(value: Any, levels: int = DEEPEST) -> Any:
    """Nested lists of numbers, from lists and arrays that hold arrays; what is nested deeper than any field stays."""
    if not levels:
        return value
    if isinstance(value, np.ndarray) and not (value.dtype == object and value.ndim):
        return value.tolist()
    return [_unpacked(entry, levels - 1) for entry in value] if isinstance(value, (list, tuple, np.ndarray)) else value


def _missing(row: Any) -> bool:
    """What tables hold where a record lacks a field: None or NaN."""
    return row is None or (isinstance(row, float) and math.isnan(row))
