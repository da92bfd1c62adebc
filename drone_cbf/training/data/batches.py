"""Batches of scenes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
from jaxtyping import Array

from drone_cbf.arrays import concatenate_trees
from drone_cbf.config import GoalMode, SceneName, SystemConfig
from drone_cbf.physics.scenes import Scene, make_scene_sampler, perturb

SceneBatchSampler = Callable[[jax.Array, Array | float], Scene]
"""(key, augment) -> scenes with a leading batch axis."""


def make_batch_sampler(
    system: SystemConfig, families: Sequence[SceneName], batch: int, goals: GoalMode = "random"
) -> SceneBatchSampler:
    """Function that draws ``batch`` scenes in equal shares per family; the first families take the remainder."""
    samplers = [make_scene_sampler(name, goals, system.scene) for name in families]
    share, rest = divmod(batch, len(samplers))
    counts = [share + (index < rest) for index in range(len(samplers))]

    def sample(key: jax.Array, augment: Array | float) -> Scene:
        drawn, perturbed = jax.random.split(key, (2, batch))
        parts, start = [], 0
        for sampler, count in zip(samplers, counts, strict=True):
            if count:
                parts.append(jax.vmap(sampler)(drawn[start : start + count]))
                start += count
        scenes = concatenate_trees(*parts)
        return jax.vmap(lambda scene, k: perturb(scene, augment, system.scene.clearance, k))(scenes, perturbed)

    return sample
