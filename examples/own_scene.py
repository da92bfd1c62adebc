"""Fly the champion through a scene of your own, with and without the filter, and draw both flights.

A slalom of poles with a gate of two spheres and a ball that crosses the path. Writes own_scene.png.

    python examples/own_scene.py                            the champion
    python examples/own_scene.py models:/drone-policy/3     version 3
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import drone_cbf

NOISE = 0.02
"""Standard deviation of the observation noise [m, m/s]."""


def slalom(system: drone_cbf.SystemConfig, poles: int = 4, spacing: float = 2.0):
    """Poles on alternating sides of the line to the goal; SI units, world frame, z up."""
    index = np.arange(poles)
    pole = np.column_stack([2.0 + spacing * index, 0.35 * (-1.0) ** index, np.zeros(poles)])
    end = 2.0 + spacing * poles
    gate = [[end, -0.7, 1.0], [end, 0.7, 1.0]]
    ball = [[0.5 * end, 3.0, 1.0]]
    return drone_cbf.make_scene(
        system,
        centre=np.concatenate([pole, gate, ball]),
        radius=[0.25] * poles + [0.3, 0.3, 0.2],
        half_height=[10.0] * poles + [0.0, 0.0, 0.0],
        velocity=[[0.0, 0.0, 0.0]] * (poles + 2) + [[0.0, -0.8, 0.0]],
        start=[0.0, 0.0, 1.0],
        goal=[end + 2.0, 0.0, 1.0],
    )


def fly_both(model_uri: str = "models:/drone-policy@champion", horizon: int = 200, folder: str = ".") -> list[Path]:
    """Two flights in the same scene; returns the pictures."""
    system, controller = drone_cbf.load_controller(model_uri)
    scenes, pictures = [slalom(system)], []
    for name, filtered in (("filter_on", True), ("filter_off", False)):
        flown = drone_cbf.fly(system, controller, scenes, filtered=filtered, noise=NOISE, horizon=horizon)
        outcome = "reached" if flown.metrics.success[0] else "collided" if flown.metrics.collision[0] else "not reached"
        print(f"{name}: goal {outcome}, closest approach {flown.clearance[0].min():.2f} m")
        figure = drone_cbf.draw_flights(system, scenes, flown, name.replace("_", " "), filtered=filtered)
        pictures.append(Path(folder) / f"own_scene_{name}.png")
        figure.savefig(pictures[-1])
    return pictures


if __name__ == "__main__":
    print("drawn:", *fly_both(*sys.argv[1:2]))
