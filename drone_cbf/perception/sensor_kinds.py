"""The sensors, by ``sensor.kind``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from drone_cbf.config import SystemConfig
from drone_cbf.perception.lidar import make_lidar, make_lidar_errors
from drone_cbf.perception.readings import Reading
from drone_cbf.perception.sensors import draw_noise, make_surface_sensor


@dataclass(frozen=True)
class Sensor:
    """A sensor as two pure functions, for one drone."""

    draw_errors: Callable[..., Any]
    """(standard deviation [m, m/s], number of obstacles, key) -> errors of one reading."""
    read: Callable[..., Reading]
    """(obstacles now, true state, place [m], step, errors, their standard deviation [m, m/s]) -> reading.

    ``place``, where the next command will act, is for idealised sensors that search around it."""


SENSORS: Mapping[str, Callable[[SystemConfig], Sensor]] = {
    "surfaces": lambda system: Sensor(draw_noise, make_surface_sensor(system.sensor)),
    "lidar": lambda system: Sensor(
        make_lidar_errors(system.sensor), make_lidar(system.sensor, system.physics.time_step)
    ),
}
"""By ``sensor.kind``."""


def make_sensor(system: SystemConfig) -> Sensor:
    """The sensor that ``system`` selects."""
    return SENSORS[system.sensor.kind](system)
