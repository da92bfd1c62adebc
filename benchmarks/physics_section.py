"""Section ``physics``: how many steps a second each model of a drone makes, alone, beside crazyflow where installed.

A control period of a model with an attitude is several inner steps (``physics.inner_rate``): its loop and its equations
by Runge-Kutta of fourth order. crazyflow makes the same step, attitude controller included, with its own integrators.
The point mass and GCBF+'s drone have one inner step in a period. crazyflow 0.4.0 excludes the pinned JAX and works
with it, installed without its requirements: pip install --no-deps crazyflow==0.4.0 mujoco==3.3.7 mujoco-mjx==3.3.7
casadi ml_collections einops imageio array-api-compat array-api-extra etils; SCIPY_ARRAY_API=1 must be set.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.timing import Timing, interleaved
from drone_cbf.config import PhysicsConfig
from drone_cbf.physics.dynamics import MODELS, make_dynamics

PACKAGES = ("jax", "numpy", "crazyflow")
PERIODS = 20  # Control periods of a flight
Row = dict[str, Any]
Fly = Callable[[jax.Array], jax.Array]
"""Commands (batch, ...) -> last positions (batch, 3)."""


def ours(model: str, batch: int) -> tuple[Fly, jax.Array, int]:
    """Flights of our ``model``, commands, and inner steps in each flight."""
    config = PhysicsConfig(model=model)
    dynamics = make_dynamics(config)
    drone = dynamics.params()
    turning = model in ("attitude", "quadrotor")
    inner = round(config.inner_rate * config.time_step) if turning else 1

    def one(commands: jax.Array) -> jax.Array:
        start = dynamics.initial(jnp.zeros(3), jnp.zeros(3))
        last, _ = jax.lax.scan(lambda state, command: (dynamics.step(state, command, drone), None), start, commands)
        return last.position

    commands = jax.random.uniform(jax.random.key(0), (batch, PERIODS, 3), minval=-2.0, maxval=2.0)
    return jax.vmap(one), commands, inner * PERIODS


def crazyflow(integrator: str, batch: int) -> tuple[Fly, jax.Array, int]:
    """Flights of crazyflow's first-principles model behind its attitude controller."""
    from crazyflow.control import Control
    from crazyflow.dynamics import Dynamics
    from crazyflow.sim import Sim
    from crazyflow.sim.functional import attitude_control

    config = PhysicsConfig(model="quadrotor")
    rate = round(config.inner_rate)
    own = {"freq": rate, "attitude_freq": rate, "integrator": integrator}
    sim = Sim(n_worlds=batch, dynamics=Dynamics.first_principles, control=Control.attitude, **own)
    steps, inner = sim.build_step_fn(), round(rate * config.time_step)

    def fly(commands: jax.Array) -> jax.Array:
        def period(data: Any, command: jax.Array) -> tuple[Any, None]:
            return steps(attitude_control(data, command[:, None]), inner), None

        last, _ = jax.lax.scan(period, sim.data, jnp.swapaxes(commands, 0, 1))
        return last.states.pos[:, 0]

    tilts = jax.random.uniform(jax.random.key(0), (batch, PERIODS, 3), minval=-0.2, maxval=0.2)
    thrust = jnp.full((batch, PERIODS, 1), 0.43)  # about hovering [N]
    return fly, jnp.concatenate([tilts, thrust], -1), inner * PERIODS


CONTENDERS: dict[str, Callable[[int], tuple[Fly, jax.Array, int]]] = {
    **{model: (lambda batch, model=model: ours(model, batch)) for model in MODELS},
    "crazyflow, rk4": lambda batch: crazyflow("rk4", batch),
    "crazyflow, euler": lambda batch: crazyflow("euler", batch),
}


def measure(batches: Sequence[int], repeats: int, seconds: float, seed: int = 0) -> list[Row]:
    """One row for each batch and model."""
    rows: list[Row] = []
    for batch in sorted(batches):
        calls: dict[str, dict[str, Callable[[], Any]]] = {"forward": {}, "gradient": {}}
        steps, absent = {}, {}
        for name, build in CONTENDERS.items():
            try:
                fly, commands, steps[name] = build(batch)
            except Exception as error:  # not installed, or not for this version of JAX
                absent[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
                continue
            forward = jax.jit(fly)
            graded = jax.jit(jax.grad(lambda commands, fly=fly: jnp.sum(fly(commands) ** 2)))
            for kind, program in (("forward", forward), ("gradient", graded)):
                calls[kind][name] = lambda program=program, given=commands: jax.block_until_ready(program(given))
        timings = {kind: interleaved(some, repeats, seconds) for kind, some in calls.items()}
        for name in CONTENDERS:
            row: Row = {"batch": batch, "model": name}
            if name in absent:
                rows.append(row | {"note": absent[name]})
                continue
            for kind, found in timings.items():
                row |= _rates(kind, found[name], batch * steps[name], found["point_mass"], batch * PERIODS)
            rows.append(row)
    return rows


def _rates(kind: str, timing: Timing | str, steps: int, point: Timing | str, periods: int) -> Row:
    """Millions of inner steps and of control periods a second, and periods beside those of the point mass."""
    if not isinstance(timing, Timing) or not isinstance(point, Timing):
        return {"note": timing} if isinstance(timing, str) else {}
    return {
        f"{kind}, inner steps [M/s]": steps / timing.milliseconds / 1e3,
        f"{kind}, periods [M/s]": periods / timing.milliseconds / 1e3,
        f"{kind}, periods / point mass": point.milliseconds / timing.milliseconds,
        f"{kind} first call [s]": (timing.first - timing.milliseconds) / 1e3,
    }
