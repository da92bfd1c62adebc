"""GCBF+'s losses on a hand-made flight: against a loop, against central differences, and that they fall."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from drone_cbf.barrier.neural import make_neural_barrier
from drone_cbf.config import SensorConfig
from drone_cbf.controller import make_unfiltered_pilot
from drone_cbf.physics.drone import initial_state
from drone_cbf.rollout import make_rollout
from drone_cbf.training.barrier.losses import make_barrier_losses, make_transitions, make_true_graphs, mean_where
from drone_cbf.training.data.flown_states import make_flown_states, take_steps
from drone_cbf.training.stages.efficiency import unfiltered
from tests.objectives.flights import flight
from tests.perception.worlds import PLAIN, capsules, graph_seen, random_barrier, random_policy, scene_of, small_system

SYSTEM = small_system(physics=PLAIN)
EPSILON, AHEAD = 0.2, 0.15
STEPS, SPEED = 24, 2.0
BALLS = capsules([[0.0, 0.0, 0.0], [0.0, 1.5, 0.4]], [0.3, 0.2])
SCENE = scene_of(BALLS)
LATE = small_system(sensor=SensorConfig(surfaces="raw"))
"""With delay, lag and drag."""
PARAMS = random_barrier(SYSTEM)
QUICK = {"xla_backend_optimization_level": 0}


def straight_flight():
    """Out of the first ball at constant speed, as a barrier can follow: into one, h falls faster than alpha allows."""
    times = SYSTEM.physics.time_step * np.arange(STEPS + 1)
    points = np.stack([SPEED * times, 0.05 + 0.0 * times, 0.0 * times], axis=-1)
    velocities = np.broadcast_to([SPEED, 0.0, 0.0], points.shape)
    return points, velocities, flight(SYSTEM, points, velocities)


@pytest.fixture(scope="module")
def transitions():
    """Every step of that flight, once."""
    _, _, trajectory = straight_flight()

    @jax.jit
    def of_every_step(*one):
        flown = make_flown_states(SYSTEM, AHEAD)(*one)
        return make_transitions(SYSTEM)(take_steps(flown, jnp.zeros(STEPS, int), jnp.arange(STEPS)), None)

    return of_every_step(*one_of(trajectory, SCENE))


def one_of(*given):
    """Each with a leading axis of one."""
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)[None]), given)


@pytest.fixture(scope="module")
def slopes(losses):
    """(parameters, transitions) -> {loss: its gradient}."""
    return jax.jit(jax.jacrev(losses))


@pytest.fixture(scope="module")
def losses():
    return jax.jit(make_barrier_losses(SYSTEM, EPSILON))


def test_the_losses_are_what_a_loop_over_the_flight_finds(transitions, losses):
    points, velocities, _ = straight_flight()
    barrier = jax.jit(make_neural_barrier(SYSTEM)(PARAMS))
    h = np.array([float(barrier(graph_seen(SYSTEM, BALLS, *at))) for at in zip(points, velocities, strict=True)])
    safe, unsafe = np.asarray(transitions.labels.safe), np.asarray(transitions.labels.unsafe)
    assert safe.sum() > 5 and unsafe.sum() > 3
    rate = np.diff(h) / SYSTEM.physics.time_step
    expected = {
        "cbf_safe": np.maximum(EPSILON - h[:-1][safe], 0.0).mean(),
        "cbf_unsafe": np.maximum(EPSILON + h[:-1][unsafe], 0.0).mean(),
        "cbf_hdot": np.maximum(EPSILON - rate - SYSTEM.barrier.class_k_gain * h[:-1], 0.0).mean(),
    }
    found = losses(PARAMS, transitions)
    assert set(found) == set(expected) and all(value > 0.0 for value in expected.values())
    for name, value in expected.items():
        # float32 differences of h over the time step.
        assert float(found[name]) == pytest.approx(value, rel=1e-4), name


@pytest.mark.parametrize("name", ["cbf_safe", "cbf_unsafe", "cbf_hdot"])
def test_the_gradient_of_each_loss_counts_the_barrier_at_both_ends_of_a_step(transitions, losses, slopes, name):
    """Central differences: with one end of the rate held fixed they would not agree."""
    gradient = slopes(PARAMS, transitions)[name]
    direction = random_barrier(SYSTEM, seed=1)
    size, numbers = 1e-3, jax.device_get((PARAMS, direction))
    ahead, behind = (
        float(losses(jax.tree.map(lambda p, d, s=sign: np.float32(p + s * size * d), *numbers), transitions)[name])
        for sign in (1.0, -1.0)
    )
    slope = sum(float(np.vdot(a, b)) for a, b in zip(*map(jax.tree.leaves, (gradient, direction)), strict=True))
    # The differences' own error: rounding 1e-6 / 1e-3, kinks of the hinge, curvature.
    assert abs(slope) > 0.02 and slope == pytest.approx((ahead - behind) / (2.0 * size), rel=0.02, abs=5e-3)


def test_a_loss_without_a_labelled_state_is_zero_and_so_is_its_gradient():
    none = jnp.zeros(3, bool)
    value, slope = jax.value_and_grad(lambda x: mean_where(x, none))(jnp.ones(3))
    assert value == 0.0 and not slope.any()
    assert mean_where(jnp.array([1.0, 2.0, 6.0]), jnp.array([True, False, True])) == 3.5


def test_no_gradient_reaches_the_flight():
    _, _, trajectory = straight_flight()

    def loss(position):
        moved = trajectory.replace(states=trajectory.states.replace(position=position))
        flown = make_flown_states(SYSTEM, AHEAD)(*jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], (moved, SCENE)))
        picked = take_steps(flown, jnp.zeros(STEPS, int), jnp.arange(STEPS))
        return sum(make_barrier_losses(SYSTEM, EPSILON)(PARAMS, make_transitions(SYSTEM)(picked, None)).values())

    assert not jax.jit(jax.grad(loss), compiler_options=QUICK)(trajectory.states.position).any()


def test_all_three_losses_fall_together_on_states_that_were_flown(transitions, losses):
    optimiser = optax.adam(1e-2)

    @jax.jit
    def update(params, state):
        gradient = jax.grad(lambda p: sum(losses(p, transitions).values()))(params)
        change, state = optimiser.update(gradient, state)
        return optax.apply_updates(params, change), state

    params, state = PARAMS, jax.jit(optimiser.init)(PARAMS)
    first = losses(params, transitions)
    for _ in range(300):
        params, state = update(params, state)
    last = losses(params, transitions)
    for name, value in first.items():
        assert float(last[name]) < 0.5 * float(value), (name, float(value), float(last[name]))
    assert sum(map(float, last.values())) < 0.2 * sum(map(float, first.values()))


def test_the_true_graphs_of_a_flight_are_what_its_controller_saw_without_noise():
    """With delay, lag and drag: states and steps are those of the graphs, one by one, and of the next ones."""
    rollout = jax.jit(make_rollout(LATE, make_unfiltered_pilot(LATE), 5), compiler_options=QUICK)
    scene = scene_of(BALLS, start=(-1.0, 0.1, 0.0))
    trajectory = rollout(unfiltered(random_policy(LATE)), scene, jnp.float32(0.0), jax.random.key(0))
    graphs = make_true_graphs(LATE)

    def here_and_next(*one):
        picked = take_steps(make_flown_states(LATE, AHEAD)(*one), jnp.zeros(5, int), jnp.arange(5))
        here = graphs(picked.states, picked.scenes, picked.steps)
        return here, graphs(picked.successors, picked.scenes, picked.steps + 1)

    here, following = jax.jit(here_and_next, compiler_options=QUICK)(*one_of(trajectory, scene))
    for name in ("relative_position", "relative_velocity", "goal", "velocity", "mask"):
        seen = np.asarray(getattr(trajectory.graphs, name))
        assert np.abs(seen[1:].astype(float) - seen[:-1]).max() > 1e-3 or name == "mask"
        # float32 through filter and prediction.
        np.testing.assert_allclose(getattr(here, name), seen, atol=2e-5, err_msg=name)
        np.testing.assert_allclose(getattr(following, name)[:-1], seen[1:], atol=2e-5, err_msg=name)


def test_a_moving_surface_is_where_it_will_be_when_a_command_acts():
    moving = BALLS.capsules.replace(velocity=jnp.array([[0.0, 0.0, 3.0], [1.0, 0.0, 0.0]]))
    scene = scene_of(BALLS.replace(capsules=moving))
    states = initial_state(jnp.array([-2.0, 0.1, 0.0]), jnp.zeros(3), LATE.physics)
    step = 7
    one = one_of(states, scene)
    graph = jax.jit(make_true_graphs(LATE), compiler_options=QUICK)(*one, jnp.array([step]))
    time = step * LATE.physics.time_step + LATE.physics.delay
    centres = np.asarray(BALLS.capsules.centre) + time * np.array([[0.0, 0.0, 3.0], [1.0, 0.0, 0.0]])
    distances = np.linalg.norm([-2.0, 0.1, 0.0] - centres, axis=1) - np.asarray(BALLS.capsules.radius)
    np.testing.assert_allclose(np.linalg.norm(graph.relative_position[0], axis=-1), distances, rtol=1e-5)
