"""An update with every mechanism of joint learning on: resumed to the bit, one program, losses that fall."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from drone_cbf.arrays import tree_norm
from drone_cbf.config import OptimiserConfig
from drone_cbf.training.barrier.minibatches import make_barrier_steps
from drone_cbf.training.curriculum.mechanisms import Learning, LossWeights
from drone_cbf.training.curriculum.schema import Curriculum, Stage
from drone_cbf.training.data.replay_buffer import initial_replay_buffer
from drone_cbf.training.settings import SafetySettings
from drone_cbf.training.update import joint_update
from drone_cbf.training.update.optimisers import Optimisers, joint_optimisers, make_optimiser
from tests.perception.worlds import few_obstacles, small_system
from tests.training.simple_flights import make_simple_pilot, resting
from tests.training.test_stages import BATCH, FAMILIES, HORIZON, NETWORKS

CROWDED = few_obstacles(4, clearance=0.0, cloud_half_extent=(0.9, 0.9, 0.6))
SYSTEM = small_system(scene=CROWDED)
QUICK = {"xla_backend_optimization_level": 0}
OWN = ("cbf_safe", "cbf_unsafe", "cbf_hdot")
MARGIN = jnp.float32(0.0)


def settings_of(**learning):
    stages = (
        Stage(name="long", steps=5, horizon=HORIZON, augment=1.0),
        Stage(name="longer", steps=5, horizon=HORIZON + 2),
    )
    curriculum = Curriculum(name="tiny", learning=Learning(look_ahead=0.1, **learning), stages=stages)
    rates = {"learning_rate": 1e-3, "barrier_learning_rate": 1e-2}
    return SafetySettings(curriculum=curriculum, batch=BATCH, scenes=FAMILIES, **rates)


EVERYTHING = settings_of(
    weights=LossWeights(**dict.fromkeys(OWN, 1.0)),
    replay=0.5,
    replay_flights=4,
    balance="mgda",
    epsilon=0.1,
    barrier_updates=3,
)


def optimisers(settings):
    one = make_optimiser(OptimiserConfig(learning_rate=settings.barrier_learning_rate, warmup=0.0), 200)
    return Optimisers(policy=one, barrier=one)


def start(settings):
    kinds, networks = optimisers(settings), NETWORKS
    return joint_update.SafetyState(
        policy=networks["policy"],
        barrier=networks["barrier"],
        policy_optimiser=kinds.policy.init(networks["policy"]),
        barrier_optimiser=kinds.barrier.init(networks["barrier"]),
        step=jnp.int32(0),
        skipped=jnp.int32(0),
        replay=initial_replay_buffer(SYSTEM, settings),
    )


@pytest.fixture(autouse=True, scope="module")
def few_states():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joint_update, "BARRIER_BATCH", 16)
        patch.setattr(joint_update, "make_sampled_batch", resting)
        patch.setattr(joint_update, "make_filtered_pilot", make_simple_pilot)
        yield


COMPILED = {}


def compiled(settings):
    """One program for each settings, shared by the tests."""
    name = settings.model_dump_json()
    if name not in COMPILED:
        update = joint_update.make_safety_update(SYSTEM, settings, HORIZON, optimisers(settings))
        COMPILED[name] = jax.jit(update, compiler_options=QUICK)
    return COMPILED[name]


def conditions(settings, **changes):
    stage = settings.curriculum.stages[0].model_copy(update={"weights": changes})
    return joint_update.conditions_of(settings.curriculum, stage)


def advance(state, count=1, settings=EVERYTHING, given=None):
    given = conditions(settings) if given is None else given
    rows = []
    for _ in range(count):
        state, figures = compiled(settings)(state, given, MARGIN, jax.random.key(3))
        rows.append(jax.device_get(figures))
    return state, rows


@pytest.mark.slow
def test_an_update_resumes_to_the_same_bits_with_its_replay_buffer():
    whole, rows = advance(start(EVERYTHING), 4)
    assert int(whole.barrier_optimiser[1][0].count) == 3 * int(whole.step) == 12, "three steps of the barrier each"
    assert all(row["grad_health/nonfinite_cbf_further"] == 0.0 for row in rows)
    half, _ = advance(start(EVERYTHING), 2)
    assert rows[1]["replay/flights"] > 0, "there is something to replay when it is resumed"
    stored = jax.tree.map(jnp.asarray, jax.device_get(half))
    resumed, later = advance(stored, 2)
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)
    np.testing.assert_equal(later, rows[2:])
    forgetful = stored.replace(replay=initial_replay_buffer(SYSTEM, EVERYTHING))
    (without,) = advance(forgetful)[1]
    assert any(without[f"loss/{name}"] != later[0][f"loss/{name}"] for name in OWN), "what is kept is learned from"


@pytest.mark.slow
def test_the_replay_buffer_fits_the_longest_stage():
    state, _ = advance(start(EVERYTHING))
    kept = jax.device_get(state.replay)
    taken = kept.scores > 0.0
    assert kept.flown.labels.safe.shape == (4, HORIZON + 2) and taken.any()
    assert set(kept.lengths[taken].tolist()) == {HORIZON}
    assert initial_replay_buffer(SYSTEM, settings_of()) is None


@pytest.mark.slow
def test_one_program_serves_every_weight_and_the_total_is_the_weighted_sum():
    safety = {"clearance", "collision", "slack", "intervention", "fallback"}
    plain, (row,) = advance(start(EVERYTHING))
    weights = {"cbf_value": 0.0, "cbf_gradient": 3.0, "cbf_safe": 0.5, "cbf_unsafe": 0.0, "cbf_hdot": 7.0}
    changed, (other,) = advance(start(EVERYTHING), given=conditions(EVERYTHING, **weights))
    assert compiled(EVERYTHING)._cache_size() == 1
    named = {name.removeprefix("loss/"): value for name, value in other.items() if name.startswith("loss/")}
    assert safety < set(named)
    total = sum(weights.get(name, 1.0) * value for name, value in named.items() if name != "total")
    assert named["total"] == pytest.approx(float(total), rel=1e-5)
    np.testing.assert_equal([row[f"loss/{name}"] for name in OWN], [named[name] for name in OWN])
    jax.tree.map(np.testing.assert_array_equal, changed.policy, plain.policy)
    assert float(tree_norm(jax.tree.map(jnp.subtract, changed.barrier, plain.barrier))) > 1e-4
    assert 0.0 <= row["balance/efficiency"] <= 1.0


@pytest.mark.slow
def test_a_barriers_own_losses_fall_in_joint_training_at_full_blend():
    """The same flights again and again (the step decides the scenes), the teacher's weights at zero."""
    given = conditions(EVERYTHING, cbf_value=0.0, cbf_gradient=0.0)
    assert given.blend == 1.0
    state, sums = start(EVERYTHING), []
    for _ in range(60):
        state, (row,) = advance(state.replace(step=jnp.int32(0)), given=given)
        sums.append({name: float(row[f"loss/{name}"]) for name in OWN})
    first, last = ({name: np.mean([row[name] for row in rows]) for name in OWN} for rows in (sums[:5], sums[-5:]))
    assert sum(last.values()) < 0.5 * sum(first.values()), (first, last)
    assert last["cbf_hdot"] < 0.5 * first["cbf_hdot"], (first, last)


@pytest.mark.slow
def test_without_the_filter_only_the_clearance_terms_speak_of_safety_and_the_barrier_still_learns():
    settings = settings_of(filtered=False, weights=LossWeights(cbf_value=0.0, cbf_gradient=0.0, cbf_hdot=1.0))
    state, (row,) = advance(start(settings), settings=settings)
    assert not {"loss/slack", "loss/intervention", "loss/fallback", "loss/cbf_value"} & set(row)
    assert {"loss/clearance", "loss/collision", *(f"loss/{name}" for name in OWN)} < set(row)
    assert "replay/flights" not in row and "balance/efficiency" not in row and state.replay is None
    assert row["filter/intervention_rate"] == 0.0, "the policy flies alone"
    assert row["grad_norm/cbf"] > 0.0 and row["grad_norm/policy"] > 0.0
    flight = [row[f"loss/{name}"] for name in ("goal", "final", "final_speed", "speed", "effort", "smoothness")]
    expected = sum(flight) + row["loss/clearance"] + row["loss/collision"] + row["loss/cbf_hdot"]
    assert row["loss/total"] == pytest.approx(float(expected), rel=1e-5)


def test_a_loss_is_built_where_any_stage_gives_it_a_weight():
    learning = Learning(weights=LossWeights(cbf_value=0.0, cbf_gradient=0.0, distill=1.0))

    def used(*changes):
        stages = tuple(Stage(name=f"s{i}", steps=1, weights=change) for i, change in enumerate(changes))
        return Curriculum(name="used", learning=learning, stages=stages).weights_used

    assert used({}) == {"distill"}
    assert used({}, {"cbf_safe": 0.5, "distill": 0.0}) == {"distill", "cbf_safe"}
    assert used({"distill": 0.0}) == frozenset()


@pytest.mark.slow
def test_further_barrier_steps_change_the_barrier_alone_by_its_optimiser():
    once, thrice = settings_of(), settings_of(barrier_updates=3)
    (plain, _), (taught, (row,)) = advance(start(once), settings=once), advance(start(thrice), settings=thrice)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), taught.policy, plain.policy)
    assert float(tree_norm(jax.tree.map(jnp.subtract, taught.barrier, plain.barrier))) > 1e-3
    assert [int(state.barrier_optimiser[1][0].count) for state in (plain, taught)] == [1, 3]
    assert int(taught.step) == 1 and row["grad_health/nonfinite_cbf_further"] == 0.0


def test_the_scale_of_the_barriers_learning_rate_shortens_its_steps_and_leaves_the_policys_alone():
    kinds = [joint_optimisers(settings_of(barrier_learning_rate_scale=scale)) for scale in (1.0, 0.05)]
    params = gradient = jnp.array([0.3, -2.0, 1e-6])

    def change(kind):
        return kind.update(gradient, kind.init(params), params)[0]

    full, short = kinds
    np.testing.assert_array_equal(change(short.policy), change(full.policy))
    np.testing.assert_allclose(change(short.barrier), 0.05 * change(full.barrier), rtol=1e-6)


def test_steps_of_the_barrier_are_those_of_a_loop_over_its_optimiser_slowed_and_weighted():
    """On a quadratic whose target each lesson names: the scan beside plain Python."""
    optimiser, rate, weights = optax.adam(0.1), jnp.float32(0.5), {"cbf_value": jnp.float32(3.0)}

    def quadratic(barrier, target):
        distance = jnp.sum((barrier - target) ** 2)
        return {"cbf_value": distance, "cbf_hdot": 100.0 * distance}  # which has no weight

    barrier, targets = jnp.array([1.0, -2.0, 0.5]), jax.random.normal(jax.random.key(4), (4, 3))
    gradient, before = jnp.array([0.1, 0.2, -0.3]), (barrier, optimiser.init(barrier))
    steps = make_barrier_steps(quadratic, optimiser)
    (found, _), figures = steps(before, gradient, targets, weights, rate)
    expected, memory = before
    for target in (None, *targets):
        slope = gradient if target is None else 2.0 * weights["cbf_value"] * (expected - target)
        change, memory = optimiser.update(slope, memory)
        expected = expected + rate * change
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert figures == {"grad_health/nonfinite_cbf_further": 0.0}
    spoilt = targets.at[2, 1].set(jnp.nan)
    _, figures = steps(before, gradient, spoilt, weights, rate)
    assert figures["grad_health/nonfinite_cbf_further"] == 2.0, "one entry, from the third step on"
    (once, _), figures = steps(before, gradient, None, weights, rate)
    np.testing.assert_allclose(once, barrier + rate * optimiser.update(gradient, before[1])[0], rtol=1e-6)
    assert figures == {}
