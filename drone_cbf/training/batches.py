"""Batches of scenes and the flights in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array

from drone_cbf.config import GoalMode, SceneName, SystemConfig
from drone_cbf.physics.scenes import Scene, make_scene_sampler, perturb

SceneBatchSampler = Callable[[jax.Array, Array | float], Scene]
"""(key, augment) -> scenes with a leading batch axis."""


def make_batch_sampler(
    system: SystemConfig, families: Sequence[SceneName], batch: int, goals: GoalMode = "random"
) -> SceneBatchSampler:
    """Function that draws ``batch`` scenes, the families in even shares (the first ones take what is left over)."""
    samplers = [make_scene_sampler(name, goals, system.scene) for name in families]
    share, rest = divmod(batch, len(samplers))
    counts = [share + (index < rest) for index in range(len(samplers))]

    def sample(key: jax.Array, augment: Array | float) -> Scene:
        parts = []
        for index, (sampler, count) in enumerate(zip(samplers, counts, strict=True)):
            if count:
                keys = jax.random.split(jax.random.fold_in(key, index), count)
                parts.append(jax.vmap(sampler)(keys))
        scenes = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
        keys = jax.random.split(jax.random.fold_in(key, len(samplers)), batch)
        return jax.vmap(lambda scene, k: perturb(scene, augment, system.scene.clearance, k))(scenes, keys)

    return sample
