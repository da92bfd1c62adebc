"""Many drones at once: a Gymnasium vector environment whose batch is one compiled ``vmap``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from drone_cbf.config import GoalMode, SceneName, SystemConfig
from drone_cbf.gym.flights import Episode, Result, make_flights
from drone_cbf.gym.single import HORIZON, as_system, first_key, on_the_host
from drone_cbf.gym.views import action_space, largest_action, observation, observation_space

Batch = dict[str, np.ndarray]


class DroneVectorEnv(gymnasium.vector.VectorEnv[Batch, np.ndarray, np.ndarray]):
    """``num_envs`` times :class:`drone_cbf.gym.single.DroneEnv`, whose arguments it takes.

    Drone i of seed s flies the episodes of a single one of seed s + i. After an episode has ended, the next step begins
    another one, whatever the action (``AutoresetMode.NEXT_STEP``).
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(
        self,
        num_envs: int = 1,
        family: SceneName = "random_cloud",
        *,
        goals: GoalMode = "random",
        system: SystemConfig | Mapping[str, Any] | None = None,
        horizon: int = HORIZON,
        noise: float = 0.0,
        render_mode: None = None,
    ) -> None:
        self.num_envs, self.render_mode = num_envs, render_mode
        self.system = as_system(system)
        flights, largest = make_flights(self.system, family, goals, horizon, noise), largest_action(self.system)

        def begin(keys: jax.Array) -> tuple[Episode, dict[str, jax.Array]]:
            episodes, readings = jax.vmap(flights.begin)(keys)
            return episodes, jax.vmap(lambda *one: observation(self.system, *one))(episodes, readings)

        def act(episodes: Episode, ended: jax.Array, actions: jax.Array):
            later, readings, result = jax.vmap(flights.act)(episodes, actions * largest)
            seen = jax.vmap(lambda *one: observation(self.system, *one))(later, readings)
            anew = jax.lax.cond(jnp.any(ended), begin, lambda keys: (later, seen), episodes.following)
            later, seen = jax.tree.map(lambda new, old: _where(ended, new, old), anew, (later, seen))
            nothing = jax.tree.map(jnp.zeros_like, result)
            return later, seen, jax.tree.map(lambda new, old: _where(ended, new, old), nothing, result)

        self._begin, self._act = jax.jit(begin), jax.jit(act)
        self._episodes: Episode | None = None
        self._ended = np.zeros(num_envs, bool)
        _, first = jax.eval_shape(begin, jax.random.split(jax.random.key(0), num_envs))
        self.single_action_space = action_space(self.system)
        self.single_observation_space = observation_space(self.system, first["hit"].shape[1])
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Batch, dict[str, Any]]:
        """Begins all episodes anew; ``seed``: of the first drone, the others have the numbers after it, or one each."""
        super().reset(seed=seed if isinstance(seed, int) else None)
        last = self._episodes if seed is None else None
        keys = self._first_keys(seed) if last is None else last.following
        self._episodes, seen = self._begin(keys)
        self._ended = np.zeros(self.num_envs, bool)
        return on_the_host(seen), {}

    def _first_keys(self, seed: int | Sequence[int | None] | None) -> jax.Array:
        seeds = (
            seed if isinstance(seed, Sequence) else [None if seed is None else seed + i for i in range(self.num_envs)]
        )
        return jnp.stack([first_key(seeding.np_random(one)[0]) for one in seeds])

    def step(self, actions: np.ndarray) -> tuple[Batch, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One control period of all; see :meth:`drone_cbf.gym.single.DroneEnv.step`. ``info`` holds arrays."""
        assert self._episodes is not None, "call reset first"
        self._episodes, seen, outcome = self._act(self._episodes, self._ended, np.asarray(actions, np.float32))
        result: Result = jax.device_get(outcome)
        terminated = np.asarray(result.collided | result.arrived)
        truncated = np.asarray(result.late) & ~terminated
        self._ended = terminated | truncated
        info = {"distance": result.distance, "clearance": result.clearance}
        info |= {"collided": result.collided, "arrived": result.arrived}
        return on_the_host(seen), np.asarray(result.reward), terminated, truncated, info


def _where(chosen: jax.Array, yes: jax.Array, no: jax.Array) -> jax.Array:
    """``yes`` in the rows that are ``chosen``; keys too."""
    return jnp.where(chosen.reshape(-1, *(1,) * (yes.ndim - 1)), yes, no)
