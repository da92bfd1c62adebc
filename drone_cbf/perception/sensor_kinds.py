"""The sensors, by ``sensor.kind``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from drone_cbf.config import SystemConfig
from drone_cbf.perception.depth import draw_depth_errors, make_depth_camera, make_depth_view
from drone_cbf.perception.lidar import make_lidar, make_lidar_errors, make_lidar_view
from drone_cbf.perception.point_map import InView
from drone_cbf.perception.readings import Reading
from drone_cbf.perception.sensors import draw_noise, make_surface_sensor


@dataclass(frozen=True)
class Sensor:
    """A sensor as pure functions, for one drone."""

    draw_errors: Callable[..., Any]
    """(standard deviation [m, m/s], number of obstacles, key) -> errors of one reading."""
    read: Callable[..., Reading]
    """(obstacles now, true state, place [m], step, errors, their standard deviation [m, m/s]) -> reading.

    ``place``, where the next command will act, is for idealised sensors that search around it."""
    in_view: InView | None = None
    """None for a sensor whose points are not remembered."""
    directed: bool = False
    """Whether it looks where the drone heads, so that the drone has a yaw."""
    exact_without_noise: bool = False
    """Whether all errors are zero at standard deviation zero: no ray is lost, for instance."""


SENSORS: Mapping[str, Callable[[SystemConfig], Sensor]] = {
    "surfaces": lambda system: Sensor(
        draw_errors=draw_noise, read=make_surface_sensor(system.sensor), exact_without_noise=True
    ),
    "lidar": lambda system: Sensor(
        draw_errors=make_lidar_errors(system.sensor),
        read=make_lidar(system.sensor, system.physics.time_step),
        in_view=make_lidar_view(system.sensor),
    ),
    "depth": lambda system: Sensor(
        draw_errors=draw_depth_errors,
        read=make_depth_camera(system.sensor),
        in_view=make_depth_view(system.sensor),
        directed=True,
    ),
}
"""By ``sensor.kind``."""


def make_sensor(system: SystemConfig) -> Sensor:
    """The sensor that ``system`` selects."""
    return SENSORS[system.sensor.kind](system)
