"""What keeps the policy: distillation, the anchor of its parameters, averages, and a frozen beginning."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from drone_cbf.arrays import tree_norm
from drone_cbf.config import OptimiserConfig
from drone_cbf.perception.graphs import empty_graph
from drone_cbf.policy.goal_conditioned import make_policy
from drone_cbf.recorder import ListRecorder
from drone_cbf.tracking.checkpoints.packages import to_leaves
from drone_cbf.tracking.checkpoints.store import match
from drone_cbf.training.curriculum.mechanisms import Learning, LossWeights
from drone_cbf.training.curriculum.schema import Curriculum, Stage
from drone_cbf.training.monitor import measurements
from drone_cbf.training.settings import SafetySettings
from drone_cbf.training.stages import safety
from drone_cbf.training.update import joint_update
from drone_cbf.training.update.anchors import (
    make_anchor_loss,
    make_command_difference,
    squared_distance,
    uses_anchor,
)
from drone_cbf.training.update.averaging import initial_averages, make_averaging, networks_of
from drone_cbf.training.update.gradient_health import SKIPPED
from drone_cbf.training.update.optimisers import make_optimiser
from tests.perception.worlds import few_obstacles, random_barrier, random_policy, small_system
from tests.training.simple_flights import make_simple_pilot, resting
from tests.training.test_stages import BATCH, FAMILIES, HORIZON

SYSTEM = small_system(scene=few_obstacles(4))
POLICY, OTHER, BARRIER = random_policy(SYSTEM, 0), random_policy(SYSTEM, 1), random_barrier(SYSTEM)

ROUNDING = 1e-9
"""Of a mean squared difference of equal commands up to 10 m/s^2, computed by differently fused programs."""


def curriculum(stages=1, stage_weights=None, **learning):
    weights = LossWeights(**learning.pop("weights", {}))
    made = [Stage(name=f"s{i}", steps=2, horizon=HORIZON, weights=stage_weights or {}) for i in range(stages)]
    return Curriculum(name="keeping", learning=Learning(weights=weights, **learning), stages=tuple(made))


@functools.cache
def states():
    """Twelve states with random features, as flights: (flight, step)."""
    draw = np.random.default_rng(5)

    def random(leaf):
        shape = (3, 4, *leaf.shape)
        return jnp.ones(shape, bool) if leaf.dtype == bool else jnp.asarray(draw.normal(size=shape), leaf.dtype)

    return jax.tree.map(random, empty_graph(SYSTEM.sensor))


def test_distillation_is_the_mean_squared_difference_of_the_commands():
    command = jax.jit(make_policy(SYSTEM))
    total = 0.0
    for flight in range(3):
        for step in range(4):
            graph = jax.tree.map(lambda leaf: leaf[flight, step], states())
            total += np.sum((np.float64(command(POLICY, graph)) - np.float64(command(OTHER, graph))) ** 2)
    difference = jax.jit(make_command_difference(SYSTEM))
    assert difference(POLICY, OTHER, states()) == pytest.approx(total / 12, rel=1e-4)
    assert total > 0.1 and difference(POLICY, POLICY, states()) < ROUNDING


def test_distillation_has_a_gradient_in_the_policy_alone():
    difference = make_command_difference(SYSTEM)
    gradient = jax.jit(jax.grad(difference, argnums=(0, 1, 2), allow_int=True))(POLICY, OTHER, states())
    assert tree_norm(gradient[0]) > 0.0 and tree_norm(gradient[1]) == 0.0
    floats = [leaf for leaf in jax.tree.leaves(gradient[2]) if leaf.dtype != jax.dtypes.float0]
    assert tree_norm(floats) == 0.0


def test_the_anchor_is_the_squared_distance_from_the_parent_not_from_zero():
    flat = [np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(each)]) for each in (POLICY, OTHER)]
    own, other = (each.astype(np.float64) for each in flat)
    value, gradient = jax.jit(jax.value_and_grad(squared_distance))(POLICY, OTHER)
    assert value == pytest.approx(np.sum((own - other) ** 2), rel=1e-5)
    np.testing.assert_allclose(
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(gradient)]), 2 * (own - other), rtol=1e-5
    )


def test_a_stages_own_weight_counts_before_the_curriculums_and_what_is_weighted_nowhere_is_not_built():
    plain = curriculum()
    assert not uses_anchor(plain) and make_anchor_loss(SYSTEM, plain)(POLICY, None, None) == {}
    tied = curriculum(weights={"policy_l2": 3.0}, stage_weights={"policy_l2": 0.5})
    assert uses_anchor(tied) and tied.weights_in(tied.stages[0])["policy_l2"] == 0.5
    assert float(joint_update.conditions_of(tied, tied.stages[0]).weights["policy_l2"]) == 0.5
    losses = make_anchor_loss(SYSTEM, tied)(POLICY, OTHER, None)
    assert set(losses) == {"policy_l2"}, "distillation is weighted nowhere"
    assert losses["policy_l2"] == pytest.approx(float(squared_distance(POLICY, OTHER)), rel=1e-6)


@pytest.mark.parametrize("decay", [0.5, 0.99])
def test_averages_are_the_weighted_mean_of_all_updates_without_the_start(decay):
    """Against the sum itself, in float64."""
    values = np.random.default_rng(0).normal(size=(7, 3))
    state = safety_state(
        policy={"w": jnp.full(3, 100.0)}, averages=initial_averages(decay, {"w": jnp.full(3, 100.0)}, {})
    )
    average = jax.jit(make_averaging(decay))
    np.testing.assert_array_equal(networks_of(state)[0]["w"], 100.0)
    for newest in values:
        state = average(state.replace(policy={"w": jnp.asarray(newest, jnp.float32)}))
    weights = decay ** np.arange(6, -1, -1.0)
    np.testing.assert_allclose(networks_of(state)[0]["w"], weights @ values / weights.sum(), rtol=1e-4)


def safety_state(**fields):
    empty = {"policy": {}, "barrier": {}, "policy_optimiser": (), "barrier_optimiser": ()}
    return joint_update.SafetyState(**(empty | {"step": jnp.int32(0), "skipped": jnp.int32(0)} | fields))


FROZEN, UPDATES = 2, 4
KEEPING = curriculum(freeze_steps=FROZEN, ema=0.5, weights={"distill": 0.1, "policy_l2": 0.1})
SETTINGS = SafetySettings(curriculum=KEEPING, batch=BATCH, scenes=FAMILIES)
OPTIMISERS = joint_update.Optimisers(*[make_optimiser(OptimiserConfig(learning_rate=0.01), 20)] * 2)


def compiled_update(**replaced):
    """Function from a state to the next and its figures: one joint update with everything on."""
    with pytest.MonkeyPatch.context() as patch:
        for name, function in replaced.items():
            patch.setattr(joint_update, name, function)
        (stage,) = KEEPING.stages
        conditions = joint_update.conditions_of(KEEPING, stage).replace(teacher=POLICY)
        given = conditions, jnp.float32(12.0), jax.random.key(0)
        update = jax.jit(joint_update.make_safety_update(SYSTEM, SETTINGS, HORIZON, OPTIMISERS))
        compiled = update.lower(begin(SETTINGS), *given).compile()
    return lambda state: compiled(state, *given)


def without_flights(*_):
    """Gradients towards zero, for what an update makes of them whatever they are."""
    drawn = SimpleNamespace(further=None, fresh=None)
    return lambda networks, *_: (networks, ({"loss/total": jnp.float32(0.0)}, drawn))


@pytest.fixture(scope="module")
def update():
    return compiled_update(make_safety_gradient=without_flights)


@pytest.fixture(scope="module")
def kept(update):
    return updated(update)


def updated(update):
    """The state at the beginning and after each update, and the figures of each."""
    states, rows = [begin(SETTINGS)], []
    for _ in range(UPDATES):
        state, figures = update(states[-1])
        states.append(state)
        rows.append({name: float(value) for name, value in figures.items()})
    return states, rows


def begin(settings):
    return safety_state(
        policy=POLICY,
        barrier=BARRIER,
        policy_optimiser=OPTIMISERS.policy.init(POLICY),
        barrier_optimiser=OPTIMISERS.barrier.init(BARRIER),
        averages=initial_averages(settings.curriculum.learning.ema, POLICY, BARRIER),
    )


def test_policy_and_optimiser_are_frozen_while_the_barrier_learns(kept):
    states, _ = kept
    for frozen in states[1 : FROZEN + 1]:
        rested = (frozen.policy, frozen.policy_optimiser)
        jax.tree.map(np.testing.assert_array_equal, rested, (states[0].policy, states[0].policy_optimiser))
        assert distance(frozen.barrier, BARRIER) > 0.0
    assert distance(states[FROZEN + 1].policy, POLICY) > 0.0


@pytest.mark.slow
def test_anchor_losses_are_zero_at_the_parent_and_count_once_the_policy_moves():
    flown = {"BARRIER_BATCH": 8, "make_sampled_batch": resting, "make_filtered_pilot": make_simple_pilot}
    _, rows = updated(compiled_update(**flown))
    for name in ("loss/distill", "loss/policy_l2"):
        values = [row[name] for row in rows]
        assert max(values[: FROZEN + 1]) < ROUNDING and values[FROZEN + 1] > 10.0 * ROUNDING
    for row in rows:
        weights = {f"loss/{name}": weight for name, weight in KEEPING.weights_in(KEEPING.stages[0]).items()}
        losses = {name: value for name, value in row.items() if name.startswith("loss/") and name != "loss/total"}
        weighted = sum(weights.get(name, 1.0) * value for name, value in losses.items())
        assert row["loss/total"] == pytest.approx(weighted, rel=1e-5)


def test_the_averages_follow_both_networks_from_update_to_update(kept):
    states, _ = kept
    weights = 0.5 ** np.arange(UPDATES - 1, -1, -1.0)
    for name in ("policy", "barrier"):
        expected = jax.tree.map(
            lambda *leaves: np.tensordot(weights, np.float64(np.stack(leaves)), 1) / weights.sum(),
            *(getattr(state, name) for state in states[1:]),
        )
        average = getattr(states[-1].averages, name)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), average, expected)
        assert distance(average, getattr(states[-1], name)) > 0.0


def test_what_a_checkpoint_stores_of_the_state_is_enough_to_go_on_to_the_same_bits(kept, update):
    states, rows = kept
    stored = unflatten_dict(to_leaves(states[FROZEN + 1]))
    state, figures = update(match(begin(SETTINGS), stored, "checkpoint"))
    jax.tree.map(np.testing.assert_array_equal, state, states[FROZEN + 2])
    np.testing.assert_equal({name: float(value) for name, value in figures.items()}, rows[FROZEN + 1])


def test_the_averages_are_measured_calibrated_and_exported(monkeypatch):
    """With an update that moves only the averages, and without flights."""
    flown, compared, taught, recorder = [], [], [], ListRecorder()

    def fly(controller, *_):
        flown.append(controller)
        return SimpleNamespace(flown=SimpleNamespace(metrics=None), subset=lambda count: None)

    def move(state, *_):
        averages = state.averages.replace(policy=OTHER, barrier=jax.tree.map(jnp.negative, BARRIER))
        figures = {"loss/total": jnp.float32(0.0), SKIPPED: jnp.float32(0.0)}
        return state.replace(step=state.step + 1, averages=averages), figures

    def held_out_losses(before, after, *_):
        taught.append((before, after))
        return {}

    given = {"success_rate": 1.0, "violation_p999": 0.0, "margin": 0.3}
    measures = SimpleNamespace(fly=fly, flyer=lambda horizon: None)
    replaced = [(safety, "StageMeasures", measures), (safety, "make_safety_update", move)]
    for module, name, function in [*replaced, (measurements, "make_lesson_collector", fly)]:
        monkeypatch.setattr(module, name, lambda *_, function=function: function)
    monkeypatch.setattr(safety, "make_held_out_losses", lambda *_: held_out_losses)
    monkeypatch.setattr(measurements, "nearest_to_boundary", lambda *_: None)
    monkeypatch.setattr(measurements, "make_comparer", lambda system: lambda barrier, states: compared.append(barrier))
    for name in ("flight_report", "calibration_report"):
        monkeypatch.setattr(measurements, name, lambda *_: given)
    result = safety.train_safety(SYSTEM, SETTINGS, POLICY, BARRIER, 12.0, recorder)
    handed = [(each.policy, each.barrier) for each in (*flown, result)]
    handed += [(tree["policy"], tree["barrier"]) for tree in recorder.checkpoints.values()]
    assert len(handed) == 5, "measured, calibrated, returned, and two checkpoints"
    ((before, after),) = taught
    jax.tree.map(np.testing.assert_array_equal, before, BARRIER)
    for policy, barrier in [*handed, (OTHER, *compared), (OTHER, after)]:
        jax.tree.map(np.testing.assert_array_equal, policy, OTHER)
        jax.tree.map(np.testing.assert_array_equal, barrier, jax.tree.map(jnp.negative, BARRIER))
    jax.tree.map(np.testing.assert_array_equal, recorder.checkpoints["final"]["state"].policy, POLICY)


def distance(one, other):
    return float(tree_norm(jax.tree.map(jnp.subtract, one, other)))
