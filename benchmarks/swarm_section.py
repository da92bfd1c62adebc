"""Section ``swarms``: steps of drones a second in GCBF+'s world for its LinearDrone, by the size of the swarm.

    python -m benchmarks.harness --sections swarms --batches 1024

A batch is of so many drones, in as many scenes as they fill, flown by one compiled program on all devices. A step is
one of one drone: sensing, estimate, graph, policy, a row of the neural barrier for each other drone and one for the
spheres, filter, physics. States and decisions are kept. The networks are untrained, which costs as much as trained.
Measured alone, it flies as stages do: a device for each core (``projects/running/jax_setup.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from matplotlib.figure import Figure

from benchmarks.systems import curriculum_system
from benchmarks.timing import Timing, interleaved
from drone_cbf.barrier.neural import initial_barrier_params
from drone_cbf.config import SystemConfig
from drone_cbf.controller import ControllerParams, Pilot, make_filtered_pilot, make_unfiltered_pilot
from drone_cbf.devices import jit_rarely_run, map_sharded
from drone_cbf.policy.policies import initial_policy_params
from drone_cbf.rollout import make_rollout
from drone_cbf.scenes.families import make_scene_sampler
from projects.running.jax_setup import configure_jax
from projects.running.stage_runner import ROOT

PACKAGES = ("jax", "jaxlib", "numpy")
STEPS = 128
Row = dict[str, Any]


@dataclass(frozen=True)
class World:
    """GCBF+'s cube for a number of drones."""

    side: float  # [m]
    spheres: int


WORLDS = {8: World(2.0, 8), 32: World(2.0, 8), 128: World(5.04, 32), 512: World(8.0, 32), 1024: World(10.08, 32)}
"""By drones; from 128 on the density of 8 in a cube of 2 m."""
PILOTS: dict[str, Callable[[SystemConfig], Pilot]] = {
    "policy": make_unfiltered_pilot,
    "with barrier and filter": make_filtered_pilot,
}


def flights(drones: int, scenes: int, make_pilot: Callable[[SystemConfig], Pilot]) -> Callable[[], Any]:
    """A compiled flight of all of ``scenes``."""
    world = WORLDS[drones]
    place = {"drones": drones, "gcbf_side": world.side, "gcbf_obstacles": world.spheres}
    system = curriculum_system("swarm", scene=place)
    key = jax.random.key(0)
    params = ControllerParams(
        policy=initial_policy_params(system, key),
        barrier=initial_barrier_params(system, key),
        margin=jnp.float32(0.0),
        blend=jnp.float32(1.0),
    )
    rollout, keys = make_rollout(system, make_pilot(system), STEPS), jax.random.split(key, scenes)
    drawn = jit_rarely_run(jax.vmap(make_scene_sampler("gcbf_linear", "random", system.scene)))(keys)
    noise = jnp.zeros(scenes)

    @jax.jit
    def fly(params: ControllerParams, scenes: Any, noise: jax.Array, keys: jax.Array) -> Any:
        flown = map_sharded(rollout, params, scenes, noise, keys)
        return flown.states, flown.decisions, flown.last

    return lambda: jax.block_until_ready(fly(params, drawn, noise, keys))


def measure(batches: Sequence[int], repeats: int, seconds: float) -> list[Row]:
    """One row for each batch and size of the swarm that fits into it."""
    configure_jax(ROOT)
    rows: list[Row] = []
    for batch in sorted(batches):
        sizes = [drones for drones in WORLDS if drones <= batch]
        calls = {
            f"{drones} {name}": flights(drones, batch // drones, make)
            for drones in sizes
            for name, make in PILOTS.items()
        }
        timings = interleaved(calls, repeats, seconds)
        for drones in sizes:
            row: Row = {"batch": batch, "model": f"{drones} drones", "scenes": batch // drones}
            for name in PILOTS:
                row |= _rates(name, timings[f"{drones} {name}"], batch // drones * drones * STEPS)
            rows.append(row)
    return rows


def _rates(name: str, timing: Timing | str, steps: int) -> Row:
    """Thousands of steps a second, by the clock and for each second of one core."""
    if not isinstance(timing, Timing):
        return {"note": timing}
    return {
        f"{name} [k/s]": steps / timing.milliseconds,
        f"{name} [k/s of one core]": steps / timing.cpu,
        f"{name} first call [s]": (timing.first - timing.milliseconds) / 1e3,
    }


def figure(rows: Sequence[Row]) -> Figure:
    """What a step of one drone costs, by the number of drones in its world, at the largest batch that was measured."""
    largest = [row for row in rows if row["batch"] == max(row["batch"] for row in rows) and "note" not in row]
    drones = [int(row["model"].split()[0]) for row in largest]
    drawing = Figure(figsize=(6.0, 4.0), layout="constrained")
    axes = drawing.subplots()
    for name in PILOTS:
        axes.plot(drones, [1e3 / row[f"{name} [k/s of one core]"] for row in largest], "o-", label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(drones, [f"{count:,}" for count in drones])
    axes.set_xlabel("drones in one world")
    axes.set_ylabel("step of one drone [µs of one core]")
    axes.set_ylim(bottom=0.0)
    axes.grid(alpha=0.3)
    axes.legend()
    return drawing
