"""Worlds of swarms of other sizes: as many drones for each metre as in the configured one."""

from drone_cbf.config import SceneConfig

DIMENSIONS = {"gcbf_side": 3, "gcbf_crazyflie_side": 3, "gcbf_double_integrator_side": 2}
"""Side of a world whose size is set -> its dimensions. The other families grow with their drones by themselves."""


def grown(config: SceneConfig, drones: int) -> SceneConfig:
    """``config`` with that many drones, at the same density; the number of obstacles stays.

    With 8 drones in a cube of 2 m, 32 have one of 3.175 m, 128 of 5.04 m and 512 of 8 m, as GCBF+ evaluates them.
    """
    ratio = drones / config.drones
    sides = {name: getattr(config, name) * ratio ** (1.0 / count) for name, count in DIMENSIONS.items()}
    return config.model_copy(update={"drones": drones, **sides})
