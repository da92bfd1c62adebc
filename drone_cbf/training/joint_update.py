"""One joint update of policy and barrier through the filter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from drone_cbf.arrays import Scalar, scale_gradient
from drone_cbf.barrier.neural import BarrierParams
from drone_cbf.config import SystemConfig
from drone_cbf.devices import everywhere, spread
from drone_cbf.objectives.losses import make_flight_loss
from drone_cbf.objectives.summaries import filter_figures, quick_figures
from drone_cbf.perception.graphs import Graph
from drone_cbf.policy.goal_conditioned import PolicyParams
from drone_cbf.rollout import ControllerParams, make_filtered_controller, make_rollout
from drone_cbf.training.adaptation import Scales, penalised, slowed
from drone_cbf.training.anchors import Anchor, make_anchor_loss
from drone_cbf.training.averaging import Averages, make_averaging
from drone_cbf.training.batches import make_batch_sampler
from drone_cbf.training.curriculum import Stage
from drone_cbf.training.flights import sees_plainly
from drone_cbf.training.freezing import make_freeze
from drone_cbf.training.gradient_health import health_figures, unless_unhealthy
from drone_cbf.training.pretraining import make_sampled_batch
from drone_cbf.training.settings import SafetySettings
from drone_cbf.training.sobolev import make_sobolev_loss

BARRIER_BATCH = 512
"""Visited states per update on which the barrier learns, and as many sampled ones against forgetting."""

Networks = dict[str, Any]
"""``policy`` and ``barrier`` parameters."""


@struct.dataclass
class Conditions:
    """What a curriculum stage sets, as arrays: one compiled update serves all stages of a horizon."""

    noise: Scalar
    """Largest observation noise [m, m/s]."""
    blend: Scalar
    augment: Scalar
    penalty: Scalar | None = None
    """Factor on the weights of slack, collision and fallback; None: no monitor sets one, and none is built."""
    learning_rate: Scalar | None = None
    """Factor on the changes of both networks, likewise."""
    anchor: Anchor | None = None
    """What the policy is tied to; None where the curriculum ties it to nothing."""


@struct.dataclass
class SafetyState:
    """All that evolves: what a resume needs."""

    policy: PolicyParams
    barrier: BarrierParams
    policy_optimiser: optax.OptState
    barrier_optimiser: optax.OptState
    step: Scalar
    skipped: Scalar
    """Updates skipped because a loss or a gradient was not finite."""
    averages: Averages | None = None
    """Of both networks; None where the curriculum averages none."""


SafetyUpdate = Callable[[SafetyState, Conditions, Scalar, jax.Array], tuple[SafetyState, dict[str, Scalar]]]
"""(state, conditions, margin [m], root key) -> (state, figures)."""


def make_safety_loss(
    system: SystemConfig, settings: SafetySettings, horizon: int
) -> Callable[[Networks, Conditions, Scalar, jax.Array], tuple[Scalar, dict[str, Scalar]]]:
    """Function (networks, conditions, margin, key) -> (batch times loss, figures); networks = {"policy", "barrier"}.
    Times the batch, so that ``physics.gradient_limit`` means the same for every batch size.
    """
    flown = sees_plainly(system)
    rollout = make_rollout(flown, make_filtered_controller(flown), horizon, rematerialise=True)
    flight_loss = make_flight_loss(system, filtered=True)
    barrier_loss = make_sobolev_loss(system)
    anchor_loss = make_anchor_loss(system, settings.curriculum)
    sample_scenes = make_batch_sampler(system, settings.scenes, settings.batch)
    sample_states = make_sampled_batch(system, BARRIER_BATCH)

    def loss(
        networks: Networks, conditions: Conditions, margin: Scalar, key: jax.Array
    ) -> tuple[Scalar, dict[str, Scalar]]:
        scene_key, flight_key, noise_key, visit_key, state_key = jax.random.split(key, 5)
        scenes = spread(sample_scenes(scene_key, conditions.augment))
        keys = jax.random.split(flight_key, settings.batch)
        noise = conditions.noise * jax.random.uniform(noise_key, (settings.batch,))
        controller = ControllerParams(
            policy=networks["policy"],
            barrier=scale_gradient(networks["barrier"], settings.barrier_task_gradient),
            margin=margin,
            blend=conditions.blend,
        )
        flights = jax.vmap(rollout, in_axes=(None, 0, 0, 0))(controller, scenes, noise, keys)
        terms = jax.tree.map(jnp.mean, jax.vmap(flight_loss)(flights, scenes))
        terms = penalised(terms, conditions.penalty)
        terms |= anchor_loss(networks["policy"], flights.graphs, conditions.anchor)
        visited = visited_states(flights.graphs, BARRIER_BATCH, visit_key)
        states = spread(jax.tree.map(lambda a, b: jnp.concatenate([a, b]), visited, sample_states(state_key)))
        lessons = barrier_loss(networks["barrier"], states)
        figures = {f"loss/{name}": value for name, value in (terms | lessons).items()}
        figures |= {"loss/total": sum((terms | lessons).values())}
        figures |= quick_figures(flights, scenes, system) | filter_figures(flights)
        return settings.batch * figures["loss/total"], figures

    return loss


def visited_states(graphs: Graph, count: int, key: jax.Array) -> Graph:
    """``count`` states picked evenly at random from flights (leading axes: flight, step), without gradient."""
    flat = jax.tree.map(lambda x: jax.lax.stop_gradient(x.reshape(-1, *x.shape[2:])), graphs)
    picked = jax.random.randint(key, (count,), 0, flat.mask.shape[0])
    return jax.tree.map(lambda x: x[picked], flat)


@dataclass(frozen=True)
class Optimisers:
    """One for each network."""

    policy: optax.GradientTransformation
    barrier: optax.GradientTransformation


def make_safety_update(
    system: SystemConfig, settings: SafetySettings, horizon: int, optimisers: Optimisers
) -> SafetyUpdate:
    """One update of both networks, each by its own optimiser."""
    loss = make_safety_loss(system, settings, horizon)
    freeze = make_freeze(settings.curriculum.learning.freeze_steps)
    average = make_averaging(settings.curriculum.learning.ema)

    def update(state: SafetyState, conditions: Conditions, margin: Scalar, root: jax.Array):
        key = jax.random.fold_in(root, state.step)
        networks = {"policy": state.policy, "barrier": state.barrier}
        gradient, figures = jax.grad(loss, has_aux=True)(networks, conditions, margin, key)
        gradient = jax.tree.map(lambda leaf: leaf / settings.batch, gradient)
        policy_change, policy_optimiser = optimisers.policy.update(
            gradient["policy"], state.policy_optimiser, state.policy
        )
        barrier_change, barrier_optimiser = optimisers.barrier.update(
            gradient["barrier"], state.barrier_optimiser, state.barrier
        )
        figures |= {
            "curriculum/noise": conditions.noise,
            "curriculum/blend": conditions.blend,
            "curriculum/augment": conditions.augment,
        }
        figures |= health_figures({"policy": gradient["policy"], "cbf": gradient["barrier"]})
        rate = conditions.learning_rate
        following = state.replace(
            policy=optax.apply_updates(state.policy, slowed(policy_change, rate)),
            barrier=optax.apply_updates(state.barrier, slowed(barrier_change, rate)),
            policy_optimiser=policy_optimiser,
            barrier_optimiser=barrier_optimiser,
            step=state.step + 1,
        )
        following = average(freeze(state, following))
        following, figures = unless_unhealthy(state, following, figures)
        return everywhere(following), figures

    return update


def conditions_of(stage: Stage, scales: Scales | None = None) -> Conditions:
    """The stage's settings as arrays, made as cautious as ``scales`` say; None: nothing ever scales them."""
    blend = stage.blend if scales is None else scales.blend * stage.blend
    return Conditions(
        noise=jnp.float32(stage.noise),
        blend=jnp.float32(blend),
        augment=jnp.float32(stage.augment),
        penalty=None if scales is None else jnp.float32(scales.penalty),
        learning_rate=None if scales is None else jnp.float32(scales.learning_rate),
    )
