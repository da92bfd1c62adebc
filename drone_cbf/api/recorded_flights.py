"""Flights of the public API as files for Foxglove and Rerun."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from drone_cbf.api.flight_records import flights_of
from drone_cbf.config import SystemConfig
from drone_cbf.flights import Flown
from drone_cbf.recordings.saving import save_flight
from drone_cbf.scenes.scene import Scene
from drone_cbf.serving.controller import STATUS_NAMES


def save_flights(
    path: str | Path,
    system: SystemConfig,
    scenes: Sequence[Scene],
    flown: Flown,
    *,
    noise: float = 0.0,
    seed: int | None = None,
    filtered: bool = True,
) -> list[Path]:
    """Write the flights of :func:`drone_cbf.fly` for other viewers, one file each (docs/recordings.md).

    Args:
        path: ends in ``.mcap`` (Foxglove) or ``.rrd`` (Rerun); several flights get ``-1``, ``-2``, ... before the dot.
        noise, seed: as they were flown. With the seed, what a range sensor read is computed again and recorded.
        filtered: whether the safety filter was on.

    Returns:
        The files.

    Raises:
        ConfigError: another ending, or the extra ``recordings`` is not installed.
    """
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *scenes)
    keys = None if seed is None else jax.random.split(jax.random.key(seed), len(scenes))
    flights = flights_of(stacked, flown, system, "flight", noise, filtered, keys)
    path = Path(path)
    names = [path] if len(flights) == 1 else [path.with_stem(f"{path.stem}-{i}") for i in range(1, len(flights) + 1)]
    return [save_flight(flight, name, STATUS_NAMES) for flight, name in zip(flights, names, strict=True)]
