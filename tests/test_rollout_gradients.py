"""Gradients of the scan: against central differences, rematerialised or not, and over long flights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.arrays import tree_all_finite, tree_norm
from drone_cbf.config import PhysicsConfig, SensorConfig
from drone_cbf.controller import make_filtered_pilot, make_unfiltered_pilot
from drone_cbf.objectives.losses import make_flight_loss
from drone_cbf.policy.policies import initial_policy_params
from drone_cbf.rollout import make_rollout
from drone_cbf.safety.records import Status
from tests.perception.worlds import capsules, random_policy, scene_of, small_system
from tests.test_rollout import NOISE, STEPS, SYSTEM, controller_params, one, scenes


@pytest.fixture(scope="module")
def world():
    return controller_params(), one(scenes()), jax.random.key(3)


@pytest.mark.slow
def test_rematerialising_changes_no_gradient(world):
    params, scene, key = world
    loss = make_flight_loss(SYSTEM, filtered=False)
    gradients = []
    for rematerialise in (False, True):
        rollout = make_rollout(SYSTEM, make_unfiltered_pilot(SYSTEM), STEPS, rematerialise=rematerialise)

        def total(policy, rollout=rollout):
            return sum(loss(rollout(params.replace(policy=policy), scene, NOISE, key), scene).values())

        gradients.append(jax.jit(jax.grad(total))(params.policy))
    size = float(tree_norm(gradients[0]))
    assert size > 1e-3
    # 1e-3: the two orders of rounding, through eight steps of a controller.
    assert float(tree_norm(jax.tree.map(jnp.subtract, *gradients))) < 1e-3 * size


@pytest.mark.slow
@pytest.mark.parametrize("level", [0, 3])
def test_gradients_that_are_not_rematerialised_are_finite_however_much_is_optimised(world, level):
    """What the backward pass keeps and what it computes again are then rounded differently, by level."""
    params, scene, key = world
    rollout = make_rollout(SYSTEM, make_unfiltered_pilot(SYSTEM), 2)

    def total(policy):
        return jnp.sum(rollout(params.replace(policy=policy), scene, NOISE, key).last.position)

    compiled = jax.jit(jax.grad(total), compiler_options={"xla_backend_optimization_level": level})
    assert bool(tree_all_finite(compiled(params.policy)))


EXPECTED_RADIUS = SensorConfig().surface_radius


@pytest.mark.parametrize(
    ("surfaces", "radius", "heights"),
    [("raw", 0.3, (0.0, 0.2)), pytest.param("tracked", EXPECTED_RADIUS, (0.5, -0.4), marks=pytest.mark.slow)],
)
def test_the_gradient_of_a_flight_is_that_of_central_differences(surfaces, radius, heights):
    """With gradient shaping off; along goal and start, in float32, so with a step far above rounding.

    Fitted surfaces are constants to differentiation. Nothing is missing where the fit is right from the first reading:
    of the expected radius, and away from the drone's height, where a ball cannot be told from an upright cylinder.
    """
    physics = PhysicsConfig(delay=0.05, gradient_decay=0.0, gradient_limit=1e6)
    system = small_system(physics=physics, sensor=SensorConfig(surfaces=surfaces))
    params = controller_params(system, jax.tree.map(lambda x: 0.3 * x, random_policy(system)))
    rollout = make_rollout(system, make_unfiltered_pilot(system), 10)
    base = scene_of(capsules([[1.0, 0.6, heights[0]], [2.0, -1.0, heights[1]]], radius))

    def end(goal, start):
        flight = rollout(params, base.replace(goal=goal, start=start), jnp.float32(0.0), jax.random.key(0))
        return flight.last.position

    goal, start = jnp.array([3.0, 0.5, 0.2]), jnp.zeros(3)
    by_goal, by_start = jax.jit(jax.jacrev(end, argnums=(0, 1)))(goal, start)
    run, width = jax.jit(end), 0.01
    for axis, e in enumerate(width * np.eye(3, dtype=np.float32)):
        # Truncation of the order of width^2, rounding 3e-7 / width, on slopes of the order of 0.1 and 1.
        goal_slope = (run(goal + e, start) - run(goal - e, start)) / (2 * width)
        start_slope = (run(goal, start + e) - run(goal, start - e)) / (2 * width)
        np.testing.assert_allclose(by_goal[:, axis], goal_slope, atol=2e-4)
        np.testing.assert_allclose(by_start[:, axis], start_slope, atol=2e-3)


def first_steps(flight, count):
    """The flight as if it had ended after ``count`` steps."""
    if count == len(flight.wind):
        return flight
    begun = jax.tree.map(lambda x: x[:count], flight.replace(last=None))
    return begun.replace(last=one(flight.states, count))


def long_gradients(horizons, seeds):
    """Gradients of the losses after each horizon with respect to both networks, through the filter, for each seed.

    One flight serves all horizons: compiling its backward pass takes far longer than flying it.
    """
    rollout = make_rollout(SYSTEM, make_filtered_pilot(SYSTEM), max(horizons), rematerialise=True)
    loss = make_flight_loss(SYSTEM, filtered=True)
    policies = [initial_policy_params(SYSTEM, jax.random.key(seed)) for seed in range(seeds)]
    policies = jax.tree.map(lambda *leaves: jnp.stack(leaves), *policies)
    base = controller_params()

    def losses(networks, scene, key):
        params = base.replace(policy=networks["policy"], barrier=networks["barrier"])
        flight = rollout(params, scene, jnp.float32(0.05), key)
        totals = [sum(loss(first_steps(flight, horizon), scene).values()) for horizon in horizons]
        return jnp.stack(totals), flight.decisions.status

    networks = {"policy": policies, "barrier": jax.tree.map(lambda x: jnp.stack([x] * seeds), base.barrier)}
    keys = jax.random.split(jax.random.key(1), seeds)
    return jax.jit(jax.vmap(jax.jacrev(losses, has_aux=True)))(networks, scenes(seeds), keys)


def check_long(horizons, seeds):
    gradients, status = long_gradients(horizons, seeds)
    acted = np.isin(np.asarray(status), [Status.INTERVENED, Status.RELAXED])
    assert acted[:, : min(horizons)].mean() > 0.01, "the filter must act, or its gradient is not on the way"
    assert np.all(np.asarray(jax.vmap(jax.vmap(tree_all_finite))(gradients)))
    sizes = np.asarray(jax.vmap(jax.vmap(tree_norm))(gradients["policy"]))
    assert sizes.shape == (seeds, len(horizons)) and np.all(sizes > 0.0)


@pytest.mark.slow
def test_gradients_through_the_filter_are_finite_over_180_steps():
    check_long((180,), 2)


@pytest.mark.slow
def test_gradients_through_the_filter_are_finite_over_180_and_400_steps_for_fifty_seeds():
    check_long((180, 400), 50)
