"""The optimiser of every stage: AdamW, clipped, with warm-up and cosine decay."""

from __future__ import annotations

import optax

from drone_cbf.arrays import within_reach
from drone_cbf.config import OptimiserConfig


def make_optimiser(config: OptimiserConfig, steps: int) -> optax.GradientTransformation:
    """AdamW over ``steps`` updates: linear warm-up, cosine decay, clipping by global norm."""
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.1 * config.learning_rate,
        peak_value=config.learning_rate,
        warmup_steps=max(1, min(steps - 1, round(config.warmup * steps))) if steps > 1 else 0,
        decay_steps=max(steps, 2),
        end_value=config.final_fraction * config.learning_rate,
    )
    clip = optax.clip_by_global_norm(config.clip)  # in reach of its norm: an infinite one would leave nothing
    return optax.chain(
        optax.GradientTransformation(clip.init, lambda gradient, *rest: clip.update(within_reach(gradient), *rest)),
        optax.adamw(schedule, b2=0.99, weight_decay=config.weight_decay),
    )
