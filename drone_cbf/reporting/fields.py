"""Reads the fields of a record as numpy arrays of the shape and kind that the record states."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]


def settle(record: object, owner: str, shapes: Mapping[str, tuple[int, ...]], kind: type = float) -> None:
    """Replace each named field by a numpy array of ``kind`` (device arrays are accepted); refuse other shapes."""
    for field, shape in shapes.items():
        try:
            array = np.asarray(getattr(record, field), dtype=kind)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{owner}: {field} cannot be read as an array of {kind.__name__}") from error
        if array.shape != shape:
            raise ValueError(f"{owner}: {field} has shape {array.shape}, expected {shape}")
        object.__setattr__(record, field, array)
