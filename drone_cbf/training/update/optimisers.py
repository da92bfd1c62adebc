"""The optimisers of all stages: AdamW with warm-up, cosine decay and clipping."""

from __future__ import annotations

from dataclasses import dataclass

import optax

from drone_cbf.arrays import bound_magnitude
from drone_cbf.config import OptimiserConfig
from drone_cbf.training.settings import SafetySettings


@dataclass(frozen=True)
class Optimisers:
    """One optimiser per network."""

    policy: optax.GradientTransformation
    barrier: optax.GradientTransformation


def joint_optimisers(settings: SafetySettings) -> Optimisers:
    """Optimisers over the whole curriculum; the barrier takes ``learning.barrier_updates`` steps per update."""
    steps, learning = settings.curriculum.total_steps, settings.curriculum.learning
    barrier_rate = settings.barrier_learning_rate * learning.barrier_learning_rate_scale
    return Optimisers(
        policy=make_optimiser(OptimiserConfig(learning_rate=settings.learning_rate), steps),
        barrier=make_optimiser(OptimiserConfig(learning_rate=barrier_rate), steps * learning.barrier_updates),
    )


def make_optimiser(config: OptimiserConfig, steps: int) -> optax.GradientTransformation:
    """AdamW over ``steps`` updates: linear warm-up, cosine decay, clipping by global norm."""
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.1 * config.learning_rate,
        peak_value=config.learning_rate,
        warmup_steps=max(1, min(steps - 1, round(config.warmup * steps))) if steps > 1 else 0,
        decay_steps=max(steps, 2),
        end_value=config.final_fraction * config.learning_rate,
    )
    clip = optax.clip_by_global_norm(config.clip)  # within_reach: an infinite norm would clip to zero
    return optax.chain(
        optax.GradientTransformation(clip.init, lambda gradient, *rest: clip.update(bound_magnitude(gradient), *rest)),
        optax.adamw(schedule, b2=0.99, weight_decay=config.weight_decay),
    )
