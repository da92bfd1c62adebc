"""One drone in one random scene, as a Gymnasium environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import jax
import numpy as np

from drone_cbf.config import GoalMode, SceneName, SystemConfig
from drone_cbf.gym.flights import Episode, Result, make_flights
from drone_cbf.gym.views import action_space, largest_action, observation, observation_space
from drone_cbf.perception.readings import Reading

HORIZON = 200  # Control periods of an episode


class DroneEnv(gymnasium.Env[Any, np.ndarray]):
    """Fly to the goal and stop there, without touching anything.

    An episode terminates at a collision of the hull, and where the drone is within 0.2 m of the goal and slower than
    0.2 m/s; it is truncated after ``horizon`` control periods. The reward of a period is the decrease of the distance
    to the goal [m], less 0.002 times the squared command times the period, plus 10 on arrival, less 10 at a collision.

    Args:
        family: scene family, as ``boxes``; ``goals``: ``trained``, ``shifted`` or ``random``.
        system: drone, sensor and scenes, as settings or a mapping of them: ``{"sensor": {"kind": "lidar"}}``.
        horizon: control periods of ``physics.time_step``; ``noise``: standard deviation of what is measured [m, m/s].
    """

    metadata = {"render_modes": []}

    def __init__(
        self,
        family: SceneName = "random_cloud",
        *,
        goals: GoalMode = "random",
        system: SystemConfig | Mapping[str, Any] | None = None,
        horizon: int = HORIZON,
        noise: float = 0.0,
        render_mode: None = None,
    ) -> None:
        self.render_mode = render_mode
        self.system = as_system(system)
        flights, largest = make_flights(self.system, family, goals, horizon, noise), largest_action(self.system)

        def begin(key: jax.Array) -> tuple[Episode, dict[str, jax.Array]]:
            return self._seen(*flights.begin(key))

        def act(episode: Episode, action: jax.Array) -> tuple[Episode, dict[str, jax.Array], Result]:
            later, reading, result = flights.act(episode, action * largest)
            return *self._seen(later, reading), result

        self._begin, self._act = jax.jit(begin), jax.jit(act)
        self._episode: Episode | None = None
        _, first = jax.eval_shape(begin, jax.random.key(0))
        self.action_space = action_space(self.system)
        self.observation_space = observation_space(self.system, first["hit"].shape[0])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Begins an episode: with ``seed`` that of the seed, without one the next, which follows from the last."""
        super().reset(seed=seed)
        last = self._episode if seed is None else None
        self._episode, seen = self._begin(first_key(self.np_random) if last is None else last.following)
        return on_the_host(seen), {}

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """One control period. ``action``: parts of the largest; commands beyond the limits are cut to them.

        ``info``: ``distance`` to the goal [m], ``clearance`` of the hull during the period [m], ``collided``,
        ``arrived``.
        """
        assert self._episode is not None, "call reset first"
        self._episode, seen, outcome = self._act(self._episode, np.asarray(action, np.float32))
        result: Result = jax.device_get(outcome)
        info = {"distance": float(result.distance), "clearance": float(result.clearance)}
        info |= {"collided": bool(result.collided), "arrived": bool(result.arrived)}
        terminated = info["collided"] or info["arrived"]
        return on_the_host(seen), float(result.reward), bool(terminated), bool(result.late and not terminated), info

    def _seen(self, episode: Episode, reading: Reading) -> tuple[Episode, dict[str, jax.Array]]:
        return episode, observation(self.system, episode, reading)


def as_system(system: SystemConfig | Mapping[str, Any] | None) -> SystemConfig:
    """The settings, validated; the defaults where there are none."""
    return system if isinstance(system, SystemConfig) else SystemConfig.model_validate(dict(system or {}))


def first_key(random: np.random.Generator) -> jax.Array:
    """Key of the first episode after a seed."""
    return jax.random.key(int(random.integers(2**31)))


def on_the_host(seen: Mapping[str, jax.Array]) -> dict[str, np.ndarray]:
    """Arrays of their own: what an agent keeps does not change."""
    return {name: np.array(values) for name, values in seen.items()}
