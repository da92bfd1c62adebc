"""Convenience functions of the public API: describe a scene, fly it, evaluate a controller. See docs/api.md."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas
from numpy.typing import ArrayLike

from drone_cbf.barrier.neural import BarrierParams
from drone_cbf.config import SystemConfig
from drone_cbf.controller import ControllerParams, make_filtered_pilot, make_unfiltered_pilot
from drone_cbf.errors import ConfigError
from drone_cbf.evaluation.matrix import Cell, evaluate_matrix, make_flyers
from drone_cbf.evaluation.settings import EvaluationSettings
from drone_cbf.flights import Flown, Flyer, fly_all, make_flyer
from drone_cbf.physics.obstacles import Obstacles, obstacles_of
from drone_cbf.physics.solids.capsules import Capsules
from drone_cbf.policy.policies import PolicyParams
from drone_cbf.scenes.scene import Scene


def make_controller(
    policy: PolicyParams, barrier: BarrierParams | None = None, margin: float = 0.0, blend: float = 1.0
) -> ControllerParams:
    """Bundle trained networks for :func:`fly` and :func:`evaluate`.

    Args:
        policy: trained policy parameters.
        barrier: trained barrier parameters; None for a policy that only flies without the filter.
        margin: calibration margin of the barrier [m].
        blend: 1 filters by the neural barrier, 0 by the analytic one, values between by a mixture.
    """
    return ControllerParams(policy=policy, barrier=barrier, margin=jnp.float32(margin), blend=jnp.float32(blend))


def make_scene(
    system: SystemConfig,
    *,
    centre: ArrayLike,
    radius: ArrayLike,
    start: ArrayLike,
    goal: ArrayLike,
    half_height: ArrayLike = 0.0,
    velocity: ArrayLike = 0.0,
    wind: ArrayLike = 0.0,
) -> Scene:
    """A scene of n obstacles in ``system.scene.obstacles`` slots; world frame, z up, SI units.

    Args:
        centre: (n, 3) centres at time zero [m].
        radius: (n,) or a scalar [m].
        start: (3,) where the drone takes off, at rest [m].
        goal: (3,) where it should hover [m].
        half_height: (n,) or a scalar [m]; 0 is a sphere, otherwise a vertical capsule (a pole or a tree trunk).
        velocity: (n, 3) or broadcastable; constant velocity of the obstacles [m/s].
        wind: (3,) or a scalar; constant wind [m/s].

    Raises:
        ConfigError: the scene has more obstacles than slots, or a value has the wrong shape or is not finite.
    """
    centre = _array("centre", centre, (np.shape(centre)[0], 3) if np.ndim(centre) else (0, 3))
    rows = {"radius": (radius, ()), "half_height": (half_height, ()), "velocity": (velocity, (3,))}
    shapes = {name: _array(name, value, (len(centre), *shape)) for name, (value, shape) in rows.items()}
    points = {"start": start, "goal": goal, "wind": wind, "start_velocity": 0.0, "gust": 0.0}
    arrays: dict[str, Any] = {name: jnp.asarray(_array(name, value, (3,))) for name, value in points.items()}
    return Scene(obstacles=_padded(system.scene.obstacles, centre=centre, **shapes), **arrays)


def _padded(slots: int, **shapes: np.ndarray) -> Obstacles:
    """Obstacles in ``slots`` slots, of which the last ones are not used."""
    count = len(shapes["centre"])
    if count > slots:
        raise ConfigError(f"make_scene: {count} obstacles, but scene.obstacles = {slots}; raise scene.obstacles")
    full = {
        name: jnp.asarray(np.concatenate([rows, np.ones((slots - count, *rows.shape[1:]), np.float32)]))
        for name, rows in shapes.items()
    }
    return obstacles_of(Capsules(active=jnp.arange(slots) < count, **full))


def _array(name: str, value: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.broadcast_to(np.asarray(value, np.float32), shape)
    except ValueError as error:
        raise ConfigError(
            f"make_scene: {name} has shape {np.shape(value)}, expected {shape} or a value that broadcasts to it"
        ) from error
    if not np.isfinite(array).all():
        raise ConfigError(f"make_scene: {name} holds a value that is not finite; correct it")
    return array


def fly(
    system: SystemConfig,
    controller: ControllerParams,
    scenes: Sequence[Scene],
    *,
    filtered: bool = True,
    noise: float = 0.0,
    horizon: int = 200,
    seed: int = 0,
) -> Flown:
    """Fly ``controller`` once through each of ``scenes``.

    Args:
        filtered: whether the safety filter is on; it needs a barrier.
        noise: standard deviation of the observation noise [m, m/s].
        horizon: steps of ``system.physics.time_step`` seconds.
        seed: of the sensor noise and the gusts.

    Returns:
        Trajectories, metrics and clearance [m] on the host; the leading axis is the scene.
    """
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *scenes)
    keys = jax.random.split(jax.random.key(seed), len(scenes))
    levels = jnp.full(len(scenes), noise, jnp.float32)
    return fly_all(_flyer(system, filtered, horizon), controller, stacked, levels, keys, lambda flown: flown)


@functools.lru_cache(maxsize=8)
def _flyer(system: SystemConfig, filtered: bool, horizon: int) -> Flyer:
    """Compiled once per system, so that a second call only flies."""
    make = make_filtered_pilot if filtered else make_unfiltered_pilot
    return make_flyer(system, make(system), horizon)


def evaluate(
    system: SystemConfig,
    settings: EvaluationSettings,
    controller: ControllerParams,
    progress: Callable[[int, Cell], None] = lambda index, cell: None,
) -> pandas.DataFrame:
    """Fly the scenario matrix with the filter off and, if ``controller`` has a barrier, on.

    Returns:
        One row per cell: ``scene``, ``noise`` [m], ``goals``, ``filtered``, then its metrics (``success_rate``,
        ``collision_rate``, ``max_violation`` [m/s], ...).
    """
    flyers = make_flyers(system, settings, filtered=controller.barrier is not None)
    return pandas.DataFrame([cell.row for cell in evaluate_matrix(system, settings, controller, flyers, progress)])
