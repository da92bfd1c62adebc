"""What keeps the policy: distillation, the anchor of its parameters, averages, and a frozen beginning."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.arrays import tree_norm
from drone_cbf.config import SceneConfig
from drone_cbf.policy.goal_conditioned import make_policy
from drone_cbf.training import joint_update, pretraining, safety
from drone_cbf.training.anchors import make_anchor, make_anchor_loss, make_command_difference, squared_distance, weighted_anchors
from drone_cbf.training.averaging import make_averaging, networks_of, start_averages
from drone_cbf.training.curriculum import Curriculum, Stage
from drone_cbf.training.mechanisms import Learning, LossWeights
from drone_cbf.training.recorder import ListRecorder
from drone_cbf.training.settings import SafetySettings
from tests.perception.worlds import random_barrier, random_policy, small_system
from tests.training.test_stages import BATCH, FAMILIES, HORIZON, make_simple_controller, resting

SYSTEM = small_system(scene=SceneConfig(obstacles=4, cloud_obstacles=4, ring_obstacles=4))
POLICY, OTHER, BARRIER = random_policy(SYSTEM, 0), random_policy(SYSTEM, 1), random_barrier(SYSTEM)

ROUNDING = 1e-9
"""Of a mean squared difference of equal commands up to 10 m/s^2, computed by differently fused programs."""


def curriculum(stages=1, stage_weights=None, **learning):
    weights = LossWeights(**learning.pop("weights", {}))
    made = [Stage(name=f"s{i}", steps=2, horizon=HORIZON, weights=stage_weights or {}) for i in range(stages)]
    return Curriculum(name="keeping", learning=Learning(weights=weights, **learning), stages=tuple(made))


@functools.cache
def states():
    """Twelve states, as flights: (flight, step)."""
    graphs = jax.jit(pretraining.make_sampled_batch(SYSTEM, 12))(jax.random.key(0))
    return jax.tree.map(lambda leaf: leaf.reshape(3, 4, *leaf.shape[1:]), graphs)


def test_distillation_is_the_mean_squared_difference_of_the_commands():
    command = make_policy(SYSTEM)
    total = 0.0
    for flight in range(3):
        for step in range(4):
            graph = jax.tree.map(lambda leaf: leaf[flight, step], states())
            total += np.sum((np.float64(command(POLICY, graph)) - np.float64(command(OTHER, graph))) ** 2)
    difference = jax.jit(make_command_difference(SYSTEM))
    assert difference(POLICY, OTHER, states()) == pytest.approx(total / 12, rel=1e-4)
    assert total > 0.1 and difference(POLICY, POLICY, states()) < ROUNDING


def test_distillation_teaches_the_policy_alone_not_the_teacher_and_not_where_to_fly():
    difference = make_command_difference(SYSTEM)
    gradient = jax.jit(jax.grad(difference, argnums=(0, 1, 2), allow_int=True))(POLICY, OTHER, states())
    assert tree_norm(gradient[0]) > 0.0 and tree_norm(gradient[1]) == 0.0
    floats = [leaf for leaf in jax.tree.leaves(gradient[2]) if leaf.dtype != jax.dtypes.float0]
    assert tree_norm(floats) == 0.0


def test_the_anchor_is_the_squared_distance_from_the_parent_not_from_zero():
    flat = [np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(each)]) for each in (POLICY, OTHER)]
    own, other = (each.astype(np.float64) for each in flat)
    assert squared_distance(POLICY, OTHER) == pytest.approx(np.sum((own - other) ** 2), rel=1e-5)
    gradient = jax.grad(squared_distance)(POLICY, OTHER)
    np.testing.assert_allclose(
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(gradient)]), 2 * (own - other), rtol=1e-5
    )


def test_a_stages_own_weight_counts_before_the_curriculums_and_what_is_weighted_nowhere_is_not_built():
    plain = curriculum()
    assert weighted_anchors(plain) == () and make_anchor(plain, POLICY)(plain.stages[0]) is None
    assert make_anchor_loss(SYSTEM, plain)(POLICY, None, None) == {}
    tied = curriculum(weights={"policy_l2": 3.0}, stage_weights={"policy_l2": 0.5})
    anchor = make_anchor(tied, OTHER)(tied.stages[0])
    terms = make_anchor_loss(SYSTEM, tied)(POLICY, None, anchor)
    assert set(terms) == {"policy_l2"}, "distillation is weighted nowhere"
    assert terms["policy_l2"] == pytest.approx(0.5 * float(squared_distance(POLICY, OTHER)), rel=1e-6)


@pytest.mark.parametrize("decay", [0.5, 0.99])
def test_averages_are_the_weighted_mean_of_all_updates_without_the_start(decay):
    """Against the sum itself, in float64."""
    values = np.random.default_rng(0).normal(size=(7, 3))
    state = safety_state(policy={"w": jnp.full(3, 100.0)}, averages=start_averages(decay, {"w": jnp.full(3, 100.0)}, {}))
    np.testing.assert_array_equal(networks_of(state)[0]["w"], 100.0)
    for newest in values:
        state = make_averaging(decay)(state.replace(policy={"w": jnp.asarray(newest, jnp.float32)}))
    weights = decay ** np.arange(6, -1, -1.0)
    np.testing.assert_allclose(networks_of(state)[0]["w"], weights @ values / weights.sum(), rtol=1e-4)


def safety_state(**fields):
    empty = {"policy": {}, "barrier": {}, "policy_optimiser": (), "barrier_optimiser": ()}
    return joint_update.SafetyState(**(empty | {"step": jnp.int32(0), "skipped": jnp.int32(0)} | fields))


@pytest.fixture(scope="module", autouse=True)
def few_flights():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining, "SCENES_PER_BATCH", 4)
        patch.setattr(joint_update, "BARRIER_BATCH", 8)
        patch.setattr(joint_update, "make_sampled_batch", resting)
        patch.setattr(safety, "STAGE_FLIGHTS", 2)
        patch.setattr(safety, "CALIBRATION_FLIGHTS", 2)
        patch.setattr(safety, "KEPT_NEAR_BOUNDARY", 16)
        for module in (joint_update, safety):
            patch.setattr(module, "make_filtered_controller", make_simple_controller)
        yield


FROZEN = 2
"""Of four updates."""


@pytest.fixture(scope="module")
def kept():
    """Joint training with everything on: settings, result, recorder."""
    chosen = curriculum(2, freeze_steps=FROZEN, ema=0.5, weights={"distill": 0.1, "policy_l2": 0.1})
    settings = SafetySettings(curriculum=chosen, batch=BATCH, scenes=FAMILIES, checkpoint_every=1)
    recorder = ListRecorder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(safety, "ControllerParams", hears(safety.ControllerParams, FLOWN))
        patch.setattr(safety, "make_comparer", hears_comparison)
        return settings, safety.train_safety(SYSTEM, settings, POLICY, BARRIER, 12.0, recorder), recorder


def test_the_policy_and_its_optimiser_rest_while_frozen_and_the_barrier_learns(kept):
    _, _, recorder = kept
    frozen, free = (recorder.states[step].state for step in (FROZEN, FROZEN + 1))
    jax.tree.map(np.testing.assert_array_equal, frozen.policy, POLICY)
    moments = [leaf for leaf in jax.tree.leaves(frozen.policy_optimiser) if np.ndim(leaf)]
    assert moments and tree_norm(moments) == 0.0
    assert distance(frozen.barrier, BARRIER) > 0.0
    assert distance(free.policy, POLICY) > 0.0


def test_losses_that_tie_the_policy_are_zero_at_the_parent_and_counted_once_it_moves(kept):
    _, _, recorder = kept
    rows = [row for row in recorder.rows if "loss/total" in row]
    for name in ("loss/distill", "loss/policy_l2"):
        values = [row[name] for row in rows]
        assert max(values[: FROZEN + 1]) < ROUNDING and values[FROZEN + 1] > 10.0 * ROUNDING
    for row in rows:
        parts = [value for name, value in row.items() if name.startswith("loss/") and name != "loss/total"]
        assert row["loss/total"] == pytest.approx(sum(parts), rel=1e-5)


def test_the_averages_are_what_is_measured_calibrated_and_handed_on(kept):
    _, result, recorder = kept
    final = recorder.checkpoints["final"]
    average = final["state"].averages
    assert average.updates == 4
    for name in ("policy", "barrier"):
        jax.tree.map(np.testing.assert_array_equal, getattr(result, name), getattr(average, name))
        jax.tree.map(np.testing.assert_array_equal, final[name], getattr(average, name))
        assert distance(getattr(average, name), getattr(final["state"], name)) > 0.0
    assert len(FLOWN) == 3, "two stages measured, one calibration"
    for controller in FLOWN[1:]:
        jax.tree.map(np.testing.assert_array_equal, (controller.policy, controller.barrier), (result.policy, result.barrier))
    (compared,) = COMPARED
    jax.tree.map(np.testing.assert_array_equal, compared, result.barrier)


FLOWN, COMPARED = [], []
"""Controllers that were measured, and barriers that were calibrated."""


def hears(made, heard):
    """``made``, but what it makes is kept in ``heard``."""

    def make(**fields):
        heard.append(made(**fields))
        return heard[-1]

    return make


def hears_comparison(system):
    compare = pretraining.make_comparer(system)
    return lambda barrier, graphs: (COMPARED.append(barrier), compare(barrier, graphs))[1]


def distance(one, other):
    return float(tree_norm(jax.tree.map(jnp.subtract, one, other)))


def test_training_with_ties_averages_and_a_frozen_beginning_goes_on_to_the_same_networks(kept):
    settings, whole, recorder = kept
    step = FROZEN + 1  # averages and optimiser under way, the last stage begun
    rest = ListRecorder(saved=recorder.states[step])
    resumed = safety.train_safety(SYSTEM, settings, POLICY, BARRIER, 12.0, rest)
    jax.tree.map(np.testing.assert_array_equal, (resumed.policy, resumed.barrier), (whole.policy, whole.barrier))
    later = [row for row in recorder.rows if "loss/total" in row and row["step"] >= step]
    np.testing.assert_equal([row for row in rest.rows if "loss/total" in row], later)
