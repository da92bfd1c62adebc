"""Where a training step spends its time: each part of a drone's step, forward and with its gradient, and whole updates.

    python -m benchmarks.training_step
    python -m benchmarks.training_step --curricula lidar --horizon 100

A part is timed by itself on what was recorded of one batch of flights, step after step as in training and, with the
gradient, computed again for the backward pass as there. Processor time on one core, so that other work on the machine
matters little; untrained networks, whose cost is that of trained ones.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.training_parts import PARTS, SEED, Part, Training, batched, flown_training, with_readings
from drone_cbf.config import OptimiserConfig
from drone_cbf.devices import jit_update
from drone_cbf.objectives.losses import make_flight_loss
from drone_cbf.objectives.metrics import quick_figures
from drone_cbf.perception.mapping import SEEN
from drone_cbf.rollout import Trajectory
from drone_cbf.training.settings import EfficiencySettings, SafetySettings
from drone_cbf.training.stages.efficiency import EfficiencyState, make_efficiency_update
from drone_cbf.training.update.joint_update import SafetyState, conditions_of, make_safety_update
from drone_cbf.training.update.optimisers import joint_optimisers, make_optimiser
from projects.inputs.curriculum_files import load_curriculum
from projects.running.jax_setup import configure_jax
from projects.running.stage_runner import ROOT


def magnitude(tree: Any) -> jax.Array:
    """A number that depends on every number in ``tree``."""
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return sum((jnp.sum(leaf * leaf) for leaf in floats), start=jnp.float32(0.0))


def with_gradient(value: Callable[..., jax.Array], count: int) -> Callable[..., Any]:
    """Value and gradient with respect to the floating-point numbers among the first ``count`` arguments."""
    both = jax.value_and_grad(value, argnums=tuple(range(count)), allow_int=True)

    def of(*given: Any) -> Any:
        total, gradient = both(*given)
        return total, [leaf for leaf in jax.tree.leaves(gradient) if leaf.dtype != jax.dtypes.float0]

    return of


def part_times(part: Part, repeats: int) -> tuple[float, float]:
    """Seconds forward and with the gradient."""
    keep = jax.checkpoint_policies.save_only_these_names(SEEN)

    def over_the_flight(params: Any, now: Any, rematerialise: bool) -> jax.Array:
        one = batched(Part(part.step, now, params, part.flight, part.carry))
        body = jax.checkpoint(one, policy=keep) if rematerialise else one
        return magnitude(jax.lax.scan(body, part.carry, now)[1])

    forward = jit_update(lambda params, now: over_the_flight(params, now, False))
    gradient = jit_update(with_gradient(lambda params, now: over_the_flight(params, now, True), 2))
    return seconds(forward, (part.params, part.now), repeats), seconds(gradient, (part.params, part.now), repeats)


def loss_times(of: Training, repeats: int) -> tuple[float, float]:
    """Seconds of the loss and the figures of flown flights, forward and with the gradient."""
    loss = make_flight_loss(of.system, filtered=True)

    def value(flights: Trajectory) -> jax.Array:
        terms = jax.vmap(loss)(flights, of.scenes)
        return magnitude(terms) + magnitude(quick_figures(flights, of.scenes, of.system))

    given = (of.flights,)
    return seconds(jit_update(value), given, repeats), seconds(jit_update(with_gradient(value, 1)), given, repeats)


def update_times(of: Training, batch: int, horizon: int, repeats: int) -> dict[str, float]:
    """Seconds of whole updates, by stage."""
    settings = EfficiencySettings(batch=batch, horizon=horizon, scenes=of.families)
    optimiser = make_optimiser(OptimiserConfig(), settings.steps)
    zero, policy, key = jnp.int32(0), of.params.policy, jax.random.key(SEED)
    state = EfficiencyState(policy=policy, optimiser=optimiser.init(policy), step=zero, skipped=zero)
    alone = jit_update(make_efficiency_update(of.system, settings, optimiser))
    curriculum = load_curriculum(of.name)
    joint = SafetySettings(curriculum=curriculum, batch=batch, scenes=of.families)
    optimisers = joint_optimisers(joint)
    both = SafetyState(
        policy=policy,
        barrier=of.params.barrier,
        policy_optimiser=optimisers.policy.init(policy),
        barrier_optimiser=optimisers.barrier.init(of.params.barrier),
        step=zero,
        skipped=zero,
    )
    conditions = conditions_of(curriculum, curriculum.stages[-1])
    together = jit_update(make_safety_update(of.system, joint, horizon, optimisers))
    return {
        "efficiency update": seconds(alone, (state, key), repeats),
        "joint update": seconds(together, (both, conditions, of.params.margin, key), repeats),
    }


def seconds(function: Callable[..., Any], given: tuple[Any, ...], repeats: int) -> float:
    """Median processor time of a call, after one that compiles."""
    jax.block_until_ready(function(*given))
    times = []
    for _ in range(repeats):
        start = time.process_time()
        jax.block_until_ready(function(*given))
        times.append(time.process_time() - start)
    return statistics.median(times)


def table(columns: Mapping[str, Mapping[str, tuple[float, float]]], batch: int, horizon: int) -> Table:
    """Rows of seconds (forward, with gradient) by curriculum, as microseconds for each drone and step."""
    shown = Table(title=f"microseconds for each drone and step, {batch} flights of {horizon} steps", box=box.MARKDOWN)
    shown.add_column("part", no_wrap=True)
    for name in columns:
        shown.add_column(f"{name}: forward", justify="right")
        shown.add_column("with gradient", justify="right")
    for part in next(iter(columns.values())):
        cells = [times for column in columns.values() for times in column[part]]
        shown.add_row(part, *("" if math.isnan(x) else f"{1e6 * x / (batch * horizon):.1f}" for x in cells))
    return shown


def column(name: str, batch: int, horizon: int, repeats: int) -> dict[str, tuple[float, float]]:
    """Seconds (forward, with gradient) of every row."""
    of = with_readings(flown_training(name, batch, horizon))
    rows = {}
    for part, make in PARTS.items():
        rows[part] = part_times(make(of), repeats)
        shown = ", ".join(f"{1e6 * taken / (batch * horizon):.1f}" for taken in rows[part])
        print(f"{name}: {part}: {shown}", file=sys.stderr)
    rows["losses and figures of flights"] = loss_times(of, repeats)
    return rows | {stage: (math.nan, taken) for stage, taken in update_times(of, batch, horizon, repeats).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curricula", default="default,lidar", help="what is trained (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=64, help="flights of an update (default: %(default)s)")
    parser.add_argument("--horizon", type=int, default=200, help="steps of a flight (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="timed calls per figure (default: %(default)s)")
    arguments = parser.parse_args()
    sizes = arguments.batch, arguments.horizon, arguments.repeats
    if min(sizes) < 1:
        parser.error("--batch, --horizon and --repeats must be at least 1")
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # before the first computation starts threads
    configure_jax(ROOT)
    columns = {name: column(name, *sizes) for name in arguments.curricula.split(",")}
    Console(width=140).print(table(columns, arguments.batch, arguments.horizon))


if __name__ == "__main__":
    main()
