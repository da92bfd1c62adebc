"""``scattered``: DiffPhysDrone's scenes at its density: what ``mixed`` packs, stretched with the target speed, at rest.

With a target speed v the obstacles of ``mixed`` lie over 8 (v - 0.5) m along the flight and 18 (v + 4) / (v - 0.5) m
across it (the published environment): at 3 m/s 20 by 50 m, at 6 m/s 44 by 33 m. Its ceilings, thickened obstacles and
ground hills are left out.
"""

import jax

from drone_cbf.config import GoalMode, SceneConfig
from drone_cbf.draws import uniform_draws
from drone_cbf.scenes.crossings import CROSSING, crossing, ends
from drone_cbf.scenes.mixed import EDGE, HALF_WIDTH, Field, course_above_ground, scatter_draws, scattered, slots
from drone_cbf.scenes.scene import Scene

__all__ = ["field", "sample", "slots"]

SLOWER = 0.5  # The scene is stretched by the target speed less this [m/s], at least by 1
WIDER = 4.0  # Its area grows with the target speed plus this [m/s]
LENGTH = 8.0  # Of the obstacles' field along the flight before it is stretched [m]


def field(config: SceneConfig) -> Field:
    """Where the obstacles lie, for ``config.scattered_speed``."""
    stretch = max(1.0, config.scattered_speed - SLOWER)
    across = HALF_WIDTH * (config.scattered_speed + WIDER) / stretch
    return Field(length=LENGTH * stretch + 2.0 * EDGE, half_width=across, moving=0)


def sample(key: jax.Array, goals: GoalMode, config: SceneConfig) -> Scene:
    """Along the scattered obstacles, in wind."""
    draw, place = uniform_draws(key, **scatter_draws(config, 0), **CROSSING), field(config)
    course = course_above_ground(config, place.length, moving=False)
    return crossing(scattered(draw, config, place), ends(draw, goals, course), draw, goals, course)
