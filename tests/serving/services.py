"""Small served policies that see unlabelled points, compiled once for all files of a process."""

from __future__ import annotations

import copy
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from drone_cbf.barrier.neural import initial_barrier_params
from drone_cbf.config import BarrierConfig, PolicyConfig, SensorConfig
from drone_cbf.controller import ControllerParams
from drone_cbf.serving.service import PolicyService, leaves_of
from tests.perception.worlds import random_barrier, random_policy, small_system

SYSTEM = small_system(
    sensor=SensorConfig(kind="lidar", lidar_azimuths=24, lidar_elevations=12),
    policy=PolicyConfig(kind="steered", features=8, node_features=8),
    barrier=BarrierConfig(base="braking", features=8),
)
ANALYTIC = ControllerParams(
    policy=random_policy(SYSTEM), barrier=random_barrier(SYSTEM), margin=jnp.float32(0.05), blend=jnp.float32(0.0)
)
NEURAL = ANALYTIC.replace(blend=jnp.float32(1.0))
NEARLY_ANALYTIC = NEURAL.replace(barrier=initial_barrier_params(SYSTEM, jax.random.key(0)))
"""An untrained network that corrects the braking margins starts from them."""
LIMIT = np.array(SYSTEM.physics.max_acceleration, np.float32)


@functools.cache
def lidar_service() -> PolicyService:
    """With the neural barrier, scattered."""
    return PolicyService(SYSTEM, NEURAL)


def with_params(service: PolicyService, params: ControllerParams) -> PolicyService:
    """The same compiled functions with other parameters."""
    other = copy.copy(service)
    other._params, _ = leaves_of(params)
    return other


def seen(points: Any, position=(0.0, 0.0, 1.0), velocity=(3.0, 0.0, 0.0), goal=(8.0, 0.0, 1.0), **more: Any) -> dict:
    """One observation of ``points`` (n, 3); ``more`` fields as given. The defaults are those of the example."""
    points = np.asarray(points, float).reshape(-1, 3)
    own = {"position": position, "velocity": velocity, "goal": goal}
    fields = {name: np.asarray(value, float)[None] for name, value in own.items()}
    return {**fields, "points": points[None], "mask": np.ones((1, len(points)), bool), **more}
