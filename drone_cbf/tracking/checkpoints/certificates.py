"""What a loaded checkpoint must be before anything flies by it: a void certificate is refused by name.

Sums of SHA-256 show that files are whole, not that their numbers certify anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from drone_cbf.config import SystemConfig
from drone_cbf.errors import CheckpointError, ConfigError
from drone_cbf.tracking.checkpoints.packages import by_path

LARGEST_PARAMETER = 1e6
"""Magnitude that no trained parameter has; float32 leaves its range in the square of a sum of larger ones."""
LARGEST_MARGIN = 50.0  # m; no sensor reaches farther
RECORDED_GROUPS = ("physics", "scene", "sensor", "barrier", "filter", "policy", "objective")
"""Groups of settings that every run has recorded. One that is added later is at its defaults where it is not named."""
_REMEDY = "repeat the run that trained it, or name another one"


def check_parameters(tree: Any, what: str) -> None:
    """CheckpointError unless every number of ``tree``, called ``what``, is finite and of a size that training gives."""
    for path, leaf in by_path(tree).items():
        values = np.asarray(leaf)
        if values.dtype.kind == "f" and not (np.abs(values) <= LARGEST_PARAMETER).all():
            wrong = values[~(np.abs(values) <= LARGEST_PARAMETER)].flat[0]
            limits = f"expected finite numbers up to {LARGEST_PARAMETER:g}"
            raise CheckpointError(f"leaf {'/'.join(path)} of {what} holds {wrong:g}, {limits}; {_REMEDY}")


def checked_number(value: Any, name: str, largest: float, what: str) -> float:
    """``value`` of the checkpoint ``what``: a single number from 0 to ``largest``; else CheckpointError."""
    array = None if isinstance(value, Mapping) else np.asarray(value)
    if array is None or array.shape != () or array.dtype.kind != "f":
        found = type(value).__name__ if array is None else f"{array.dtype}{list(array.shape)}"
        raise CheckpointError(f"{name} of {what} is {found}, expected a single number; {_REMEDY}")
    if not 0.0 <= float(array) <= largest:
        raise CheckpointError(
            f"{name} of {what} is {float(array):g}, expected 0 to {largest:g}: the certificate is void; {_REMEDY}"
        )
    return float(array)


def checked_margin(value: Any, what: str) -> float:
    """The calibration margin [m] of the checkpoint ``what``; CheckpointError if nothing could have calibrated it."""
    return checked_number(value, "margin", LARGEST_MARGIN, what)


def recorded_system(config: Any, source: str) -> SystemConfig:
    """The system in the ``config`` of ``source`` (a parsed ``config.yaml``), which must say all that was flown.

    Raises:
        ConfigError: there is none, a group is missing or no mapping, or a value is out of its range.
    """
    remedy = "name another run, or repeat that one"
    system = config.get("system") if isinstance(config, Mapping) else None
    if not isinstance(system, Mapping):
        found = "no system" if system is None else f"a system that is a {type(system).__name__}"
        raise ConfigError(f"{source} has {found}: it does not say what was flown; {remedy}")
    for group in RECORDED_GROUPS:
        if not isinstance(system.get(group), Mapping) or not system[group]:
            raise ConfigError(f"{source} says nothing of {group}: it does not say what was flown; {remedy}")
    return SystemConfig.parse(system, f"{source}: system", "config.yaml of another run")
