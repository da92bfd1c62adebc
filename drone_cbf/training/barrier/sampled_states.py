"""Random states of scene families, drawn by strata, for training and for validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import numpy as np

from drone_cbf.arrays import concatenate_trees
from drone_cbf.barrier.lessons import Lesson
from drone_cbf.barrier.strata import make_stratum_sampler
from drone_cbf.config import SceneName, SystemConfig
from drone_cbf.scenes.scene import per_drone
from drone_cbf.training.curriculum.strata_mixture import parse_strata, stratum_counts
from drone_cbf.training.data.flights import drones_at_once, make_batch_sampler
from drone_cbf.training.settings import DEFAULT_SCENES

SCENES_PER_BATCH = 64
"""Random scenes from which the states of one batch are sampled."""


def families_beside(flown: Sequence[SceneName]) -> tuple[SceneName, ...]:
    """Families in which states are sampled beside flights of joint training through ``flown``: the same, but all of
    :data:`DEFAULT_SCENES` if these hold them, as in runs recorded before there were others."""
    return DEFAULT_SCENES if set(flown) <= set(DEFAULT_SCENES) else tuple(flown)


def make_sampled_batch(
    system: SystemConfig, families: Sequence[SceneName], count: int, strata: Sequence[str] = ("open:1",)
) -> Callable[[jax.Array], Lesson]:
    """Function from a key to ``count`` random states (leading axis) in fresh scenes of ``families``, by ``strata``
    (entries ``name:weight``). The states of a stratum are contiguous and spread over all scenes."""
    scenes_count = max(1, min(SCENES_PER_BATCH, count))
    sample_scenes = make_batch_sampler(system, families, -(-scenes_count // drones_at_once(system, families)))
    counts = stratum_counts(parse_strata(strata), count)
    samplers = {name: make_stratum_sampler(name, system) for name in counts}

    def sample(key: jax.Array) -> Lesson:
        scene_key, state_key = jax.random.split(key)
        scenes, keys = per_drone(sample_scenes(scene_key, 1.0)), jax.random.split(state_key, count)
        parts, first = [], 0
        for name, size in counts.items():
            rows = np.arange(size) % scenes_count if size >= scenes_count else np.arange(size) * scenes_count // size
            chosen = jax.tree.map(lambda x: x[rows], scenes)
            parts.append(jax.vmap(samplers[name])(chosen, keys[first : first + size]))
            first += size
        return concatenate_trees(*parts)

    return sample
