"""A controller that is quickly compiled, and whose answers show what it remembers."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from drone_cbf.serving.controller import Answer, ServedController


def averaging_controller() -> ServedController:
    """Commands the way to the mean of all positions so far: its answer depends on positions that it remembers."""

    def start() -> dict[str, jax.Array]:
        return {"mean": jnp.zeros(3, jnp.float32), "count": jnp.int32(0)}

    def step(params: Any, memory: dict[str, jax.Array], observation: Any):
        count = memory["count"] + 1
        mean = memory["mean"] + (observation.position - memory["mean"]) / count
        command = mean - observation.position
        answer = Answer(command=command, nominal_command=mean, h=observation.goal[0] - mean[0], status=jnp.int32(0))
        return {"mean": mean, "count": count}, answer

    def shift(memory: dict[str, jax.Array], offset: jax.Array) -> dict[str, jax.Array]:
        return {**memory, "mean": memory["mean"] + offset}

    return ServedController(start=start, step=step, shift=shift)


def gathering_controller() -> ServedController:
    """Commands the mean of all that it is told of the other drones; h is how many these are."""

    def step(params: Any, memory: dict[str, jax.Array], observation: Any):
        others, count = observation.others, jnp.sum(observation.others.seen)
        told = jnp.where(others.seen[:, None], others.position + 2.0 * others.velocity, 0.0)
        command = jnp.sum(told, axis=0) / jnp.maximum(count, 1)
        answer = Answer(
            command=command, nominal_command=others.position[0], h=count.astype(jnp.float32), status=jnp.int32(0)
        )
        return memory, answer

    def start() -> dict[str, jax.Array]:
        return {"nothing": jnp.zeros(1, jnp.float32)}

    return ServedController(start=start, step=step, shift=lambda memory, offset: memory)
