"""Convenience functions of the public API: fly scenes, evaluate a controller. See docs/api.md."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import pandas

from drone_cbf.barrier.neural import BarrierParams
from drone_cbf.config import SystemConfig
from drone_cbf.controller import ControllerParams
from drone_cbf.evaluation.matrix import Cell, evaluate_matrix, make_flyers
from drone_cbf.evaluation.settings import EvaluationSettings
from drone_cbf.flights import Flown, fly_all, policy_flyer
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
    return fly_all(policy_flyer(system, filtered, horizon), controller, stacked, levels, keys, lambda flown: flown)


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
