"""Stage one: a policy that flies, trained by back-propagation through time without a safety filter (DiffPhysDrone)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from flax import struct

from drone_cbf.arrays import Scalar
from drone_cbf.config import OptimiserConfig, SystemConfig
from drone_cbf.controller import ControllerParams, make_unfiltered_pilot
from drone_cbf.devices import map_sharded, put_replicated, replicate, shard_batch
from drone_cbf.flights import policy_flyer
from drone_cbf.objectives.losses import make_flight_loss
from drone_cbf.objectives.metrics import flight_report, quick_figures
from drone_cbf.policy.policies import PolicyParams, initial_policy_params
from drone_cbf.recorder import Recorder
from drone_cbf.rollout import flights_of_swarms, make_rollout
from drone_cbf.scenes.scene import scene_count
from drone_cbf.training.data.flights import (
    drones_at_once,
    make_batch_sampler,
    make_flight_measure,
    report_key,
    training_view,
)
from drone_cbf.training.population import OwnPrograms, Programs
from drone_cbf.training.settings import EfficiencySettings
from drone_cbf.training.update.gradient_health import check_health, health_metrics, skip_if_nonfinite, to_floats
from drone_cbf.training.update.optimisers import make_optimiser

START_AUGMENT = 0.5
"""Disturbance of scenes and start velocities (:func:`drone_cbf.scenes.scene.perturb`): flights start in motion."""


@struct.dataclass
class EfficiencyState:
    """The training state: what resuming needs."""

    policy: PolicyParams
    optimiser: optax.OptState
    step: Scalar
    skipped: Scalar
    """Updates skipped because their loss or gradient was not finite."""


@dataclass(frozen=True)
class EfficiencyResult:
    """The policy and its metrics on fresh scenes."""

    policy: PolicyParams
    report: dict[str, float]


def unfiltered(policy: PolicyParams) -> ControllerParams:
    """Controller parameters of a policy without a barrier."""
    return ControllerParams(policy=policy, barrier=None, margin=jnp.float32(0.0), blend=jnp.float32(0.0))


def make_efficiency_update(
    system: SystemConfig, settings: EfficiencySettings, optimiser: optax.GradientTransformation
) -> Callable[[EfficiencyState, jax.Array], tuple[EfficiencyState, dict[str, Scalar]]]:
    """Function (state, root key) -> (state, metrics): one update on a fresh batch of scenes."""
    controller = make_unfiltered_pilot(system)
    rollout = make_rollout(training_view(system), controller, settings.horizon, rematerialise=True)
    flight_loss = make_flight_loss(system, filtered=False)
    count = scene_count(settings.batch, drones_at_once(system, settings.scenes))
    sample = make_batch_sampler(system, settings.scenes, count)

    def loss(policy: PolicyParams, key: jax.Array) -> tuple[Scalar, dict[str, Scalar]]:
        """Sum over the batch, so that ``physics.gradient_limit`` means the same for every batch size."""
        scene_key, flight_key, noise_key = jax.random.split(key, 3)
        scenes = shard_batch(sample(scene_key, START_AUGMENT))
        keys = jax.random.split(flight_key, count)
        noise = settings.noise * jax.random.uniform(noise_key, (count,))
        flights, scenes = flights_of_swarms(map_sharded(rollout, unfiltered(policy), scenes, noise, keys), scenes)
        terms = jax.tree.map(jnp.mean, jax.vmap(flight_loss)(flights, scenes))
        metrics = {f"loss/{name}": value for name, value in terms.items()} | quick_figures(flights, scenes, system)
        total = sum(terms.values())
        return settings.batch * total, metrics | {"loss/total": total}

    def update(state: EfficiencyState, root: jax.Array) -> tuple[EfficiencyState, dict[str, Scalar]]:
        key = jax.random.fold_in(root, state.step)
        gradient, metrics = jax.grad(loss, has_aux=True)(state.policy, key)
        gradient = jax.tree.map(lambda leaf: leaf / settings.batch, gradient)
        changes, optimiser_state = optimiser.update(gradient, state.optimiser, state.policy)
        policy = optax.apply_updates(state.policy, changes)
        updated = state.replace(policy=policy, optimiser=optimiser_state, step=state.step + 1)
        updated, metrics = skip_if_nonfinite(state, updated, metrics | health_metrics({"policy": gradient}))
        return replicate(updated), metrics

    return update


def train_efficiency(
    system: SystemConfig, settings: EfficiencySettings, recorder: Recorder, programs: Programs | None = None
) -> EfficiencyResult:
    """Train a policy from scratch, as a member of a population with its ``programs``.

    Raises:
        TrainingError: more than ``nonfinite_limit`` updates had a non-finite loss or gradient.
    """
    programs, root = programs or OwnPrograms(), jax.random.key(settings.seed)
    optimiser = make_optimiser(OptimiserConfig(learning_rate=settings.learning_rate), settings.steps)
    policy = initial_policy_params(system, report_key(root, 0))
    fresh = EfficiencyState(policy=policy, optimiser=optimiser.init(policy), step=jnp.int32(0), skipped=jnp.int32(0))
    state = put_replicated(recorder.restore(fresh))
    update = programs.shared(
        "update", lambda jit: jit(make_efficiency_update(system, settings, optimiser), held=(1,), donate_argnums=0)
    )
    first = int(state.step)
    recorder.begin("efficiency", settings.steps, first)
    for step in range(first, settings.steps):
        state, metrics = update(state, root)
        values = to_floats(metrics)
        recorder.metrics(step, values)
        check_health(values, step, settings.nonfinite_limit, recorder, state, {"root": root})
        if (step + 1) % settings.checkpoint_every == 0:
            recorder.progress(step + 1, state)
    report = measure_policy(system, settings, state.policy, root, programs)
    tree = {"policy": state.policy, "optimiser": state.optimiser, "step": state.step}
    recorder.checkpoint(settings.steps, tree, "final")
    return EfficiencyResult(policy=state.policy, report=report)


def measure_policy(
    system: SystemConfig, settings: EfficiencySettings, policy: PolicyParams, root: jax.Array, programs: Programs
) -> dict[str, float]:
    """Metrics of the unfiltered policy on fresh scenes without noise."""
    fly = policy_flyer(system, False, settings.horizon)
    measure = programs.shared(
        "measure", lambda jit: make_flight_measure(system, fly, settings.scenes, settings.report_flights)
    )
    return flight_report(measure(unfiltered(policy), 0.0, 0.0, report_key(root, 1)).flown.metrics)
