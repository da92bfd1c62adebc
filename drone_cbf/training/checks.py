"""Checks on the figures of an update, on the host."""

from __future__ import annotations

import math
from collections.abc import Mapping

from drone_cbf.errors import TrainingError


def check_finite(values: Mapping[str, float], step: int) -> None:
    """Raise :class:`TrainingError` when a loss or a gradient norm is not a number: nothing is silently zeroed."""
    for name, value in values.items():
        if name.startswith(("loss/", "grad_norm/")) and not math.isfinite(value):
            raise TrainingError(f"{name} became {value} at step {step}; lower the learning rate or shorten the horizon")
