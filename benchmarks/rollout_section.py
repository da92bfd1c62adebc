"""Section ``rollout``: steps of a drone a second in closed loop, by what is in the loop, and how they grow.

    python -m benchmarks.harness --sections rollout --batches 64,1024

A step senses, estimates, builds the graph, asks the policy and, where it is named, barrier and filter, and moves the
drone. Flights are in ``random_cloud``, mapped over the devices in one compiled program, with untrained networks, which
cost what trained ones do. Analytic and neural barrier are one program, which blends them. At the smallest batch the
controller with filter also flies longer, and among more obstacles: time for each step must not grow with the first,
and with the second by the search for nearest points alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.systems import curriculum_system
from benchmarks.timing import Timing, interleaved
from drone_cbf.barrier.neural import initial_barrier_params
from drone_cbf.controller import ControllerParams, make_filtered_pilot, make_unfiltered_pilot
from drone_cbf.devices import jit_rarely_run, map_sharded
from drone_cbf.physics.dynamics import MODELS
from drone_cbf.policy.policies import initial_policy_params
from drone_cbf.rollout import make_rollout
from drone_cbf.scenes.families import make_scene_sampler
from projects.running.jax_setup import configure_jax
from projects.running.stage_runner import ROOT

PACKAGES = ("jax", "jaxlib", "numpy")
STEPS, LONGER = 60, (250, 1000)  # Of a flight
OBSTACLES, MORE = 28, (64, 256, 512)  # Slots of a scene; a cloud fills 24 of them
Row = dict[str, Any]


@dataclass(frozen=True)
class Loop:
    """What is timed."""

    curriculum: str = "default"  # Whose system is flown
    model: str = "point_mass"  # Of the drone
    filtered: bool = True
    steps: int = STEPS
    obstacles: int = OBSTACLES


WITH_FILTER = "+ barrier and filter"
LOOPS = {
    "policy": Loop(filtered=False),
    WITH_FILTER: Loop(),
    "+ lidar": Loop("lidar"),
    "+ depth": Loop("depth"),
    **{f"+ {model}": Loop(model=model) for model in MODELS if model != "point_mass"},
}
GROWTH = {
    **{f"{WITH_FILTER}, {steps} steps": Loop(steps=steps) for steps in LONGER},
    **{f"{WITH_FILTER}, {count} obstacles": Loop(obstacles=count) for count in MORE},
}


def flights(loop: Loop, batch: int) -> Callable[[], Any]:
    """A compiled call that flies ``batch`` scenes by ``loop``."""
    own = {"physics": {"model": loop.model}, "scene": {"obstacles": loop.obstacles}}
    system, key = curriculum_system(loop.curriculum, **own), jax.random.key(0)
    params = ControllerParams(
        policy=initial_policy_params(system, key),
        barrier=initial_barrier_params(system, key) if loop.filtered else None,
        margin=jnp.float32(0.05),
        blend=jnp.float32(1.0),
    )
    pilot = (make_filtered_pilot if loop.filtered else make_unfiltered_pilot)(system)
    rollout, keys = make_rollout(system, pilot, loop.steps), jax.random.split(key, batch)
    scenes = jit_rarely_run(jax.vmap(make_scene_sampler("random_cloud", "random", system.scene)))(keys)
    noise = jnp.full(batch, 0.02)

    @jax.jit
    def fly(params: ControllerParams, scenes: Any, noise: jax.Array, keys: jax.Array) -> Any:
        flown = map_sharded(rollout, params, scenes, noise, keys)
        return flown.states.position, flown.decisions, flown.last.position

    return lambda: jax.block_until_ready(fly(params, scenes, noise, keys))


def measure(batches: Sequence[int], repeats: int, seconds: float) -> list[Row]:
    """One row for each batch and loop."""
    configure_jax(ROOT)
    rows: list[Row] = []
    for batch in sorted(batches):
        loops = LOOPS | GROWTH if batch == min(batches) else LOOPS
        timings = interleaved({name: flights(loop, batch) for name, loop in loops.items()}, repeats, seconds)
        rows += [{"batch": batch, "model": name} | _rates(loops, timings, name, batch) for name in loops]
    return rows


def _rates(loops: dict[str, Loop], timings: dict[str, Timing | str], name: str, batch: int) -> Row:
    """Thousands of steps a second, by the clock and of one core; time of a step beside that of the policy alone."""
    timing, alone = timings[name], timings["policy"]
    if not isinstance(timing, Timing) or not isinstance(alone, Timing):
        return {"note": str(timing)}
    steps = batch * loops[name].steps
    return {
        "steps [k/s]": steps / timing.milliseconds,
        "steps of one core [k/s]": steps / timing.cpu,
        "time / policy alone": timing.milliseconds / steps / (alone.milliseconds / (batch * STEPS)),
        "first call [s]": (timing.first - timing.milliseconds) / 1e3,
    }
