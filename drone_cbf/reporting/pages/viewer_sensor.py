"""Range-sensor hits and depth images of a flight, packed small enough to travel inside the viewer's page."""

from __future__ import annotations

import base64

import numpy as np
import numpy.typing as npt

from drone_cbf.reporting.fields import Array
from drone_cbf.reporting.pages.viewer_scene import numbers
from drone_cbf.reporting.records import Flight

MOST_POINTS = 512  # of one reading
WIDEST_IMAGE = 96  # pixels of a depth image along either side
BASE64 = 4 / 3  # characters for each byte
LEVELS_16, LEVELS_8 = 65535, 254


def has_sensor(flight: Flight) -> bool:
    """Whether anything that a sensor saw was recorded."""
    return flight.seen is not None or flight.depth is not None


def packed(flight: Flight, steps: npt.NDArray[np.integer], most_bytes: int) -> dict[str, object] | None:
    """Readings at the first of ``steps`` (one for each frame) and every ``stride``-th after it; None without a sensor.

    ``stride`` is the smallest with which both layers together stay below ``most_bytes``.
    """
    if not has_sensor(flight):
        return None
    image = None if flight.depth is None else _thinned_image(flight.depth)
    points = [_thinned(flight.hits(step)) for step in steps.tolist()] if flight.seen is not None else None
    each = BASE64 * (6 * np.mean([len(some) for some in points]) if points else 0.0)
    each += BASE64 * (image.shape[1] * image.shape[2] if image is not None else 0.0)
    stride = max(1, int(np.ceil(len(steps) * each / max(most_bytes, 1))))
    return {
        "stride": stride,
        "seen": None if points is None else _points(points[::stride]),
        "depth": None if image is None else _image(image[steps[::stride]]),
    }


def _points(readings: list[Array]) -> dict[str, object]:
    """Coordinates in 16-bit steps from ``low`` to ``low + size`` [m], little-endian; ``counts`` points each reading."""
    flat = np.concatenate(readings)
    low, high = (flat.min(0), flat.max(0)) if len(flat) else (np.zeros(3), np.zeros(3))
    size = np.maximum(high - low, 1e-6)
    levels = np.round((flat - low) / size * LEVELS_16).astype("<u2")
    return {
        "low": numbers(low, 6),
        "size": numbers(size, 6),
        "counts": [len(points) for points in readings],
        "data": base64.b64encode(levels.tobytes()).decode(),
    }


def _image(images: Array) -> dict[str, object]:
    """Depths in 8-bit steps between 0 and ``far`` [m]; 255: nothing seen."""
    seen = np.isfinite(images)
    far = max(float(images[seen].max()) if seen.any() else 1.0, 1e-6)
    levels = np.where(seen, np.round(np.clip(np.where(seen, images, 0.0) / far, 0.0, 1.0) * LEVELS_8), 255)
    return {
        "width": images.shape[2],
        "height": images.shape[1],
        "far": round(far, 3),
        "data": base64.b64encode(levels.astype(np.uint8).tobytes()).decode(),
    }


def _thinned(points: Array) -> Array:
    """Every second, third ... point, so that at most ``MOST_POINTS`` are left."""
    return points[:: max(1, -(-len(points) // MOST_POINTS))]


def _thinned_image(images: Array) -> Array:
    """Every second, third ... row and column, so that neither side is longer than ``WIDEST_IMAGE``."""
    every = max(1, -(-max(images.shape[1:]) // WIDEST_IMAGE))
    return images[:, ::every, ::every]
