"""The three stages on a tiny system: reproducible, recorded, downhill, and each network taught by its own losses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.arrays import tree_norm
from drone_cbf.barrier import calibration
from drone_cbf.config import OptimiserConfig, SensorConfig
from drone_cbf.errors import TrainingError
from drone_cbf.objectives.losses import make_flight_loss
from drone_cbf.recorder import ListRecorder
from drone_cbf.training.barrier import sampled_states, validation
from drone_cbf.training.barrier.validation import HeldOutStrata
from drone_cbf.training.curriculum.mechanisms import Monitor
from drone_cbf.training.curriculum.schema import Curriculum, Stage
from drone_cbf.training.monitor import measurements
from drone_cbf.training.settings import EfficiencySettings, PretrainingSettings, SafetySettings
from drone_cbf.training.stages import efficiency, pretraining, safety
from drone_cbf.training.update import joint_update
from drone_cbf.training.update.optimisers import make_optimiser
from tests.perception.worlds import few_obstacles, random_barrier, random_policy, small_system
from tests.training.simple_flights import flyer_of, make_simple_pilot, resting

SYSTEM = small_system(scene=few_obstacles(4))
FAMILIES = ("random_cloud",)
HORIZON, BATCH = 8, 3
SIMPLE = small_system(
    scene=few_obstacles(1, forest_wind=0.0), sensor=SensorConfig(surfaces="raw", estimator="raw", neighbours=1)
)
"""Flown by the simple controller below: the less is seen, the less is compiled."""


@functools.cache
def sampled(system):
    return jax.jit(sampled_states.make_sampled_batch(system, FAMILIES, 64))


@pytest.fixture(autouse=True, scope="module")
def few_flights():
    """Every count of flights and states that only makes figures precise, made small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(efficiency, "measure_policy", lambda *_: {"success_rate": 0.0})
        patch.setattr(
            pretraining, "make_lesson_collector", lambda system, *_: lambda _, __, ___, key: sampled(system)(key)
        )
        patch.setattr(pretraining, "KEPT_NEAR_BOUNDARY", 64)
        patch.setattr(
            pretraining,
            "sample_held_out_strata",
            lambda *given: HeldOutStrata(sampled(given[0])(given[2]), {"open": 64}, 0.999),
        )
        patch.setattr(sampled_states, "SCENES_PER_BATCH", 4)
        audit = functools.partial(pretraining.audit_analytic_barrier, count=64)
        patch.setattr(pretraining, "audit_analytic_barrier", audit)
        patch.setattr(joint_update, "BARRIER_BATCH", 8)
        patch.setattr(joint_update, "make_sampled_batch", resting)
        patch.setattr(validation, "make_sampled_batch", resting)
        patch.setattr(validation, "LOSS_STATES", 8)
        patch.setattr(measurements, "KEPT_NEAR_BOUNDARY", 16)
        yield


@pytest.fixture(scope="module")
def simple_efficiency(few_flights):
    """All runs of the first stage are as long and use the same compiled update."""
    make_update = efficiency.make_efficiency_update

    @functools.cache
    def update():
        settings = efficiency_settings()
        optimiser = make_optimiser(OptimiserConfig(learning_rate=settings.learning_rate), settings.steps)
        return make_update(SIMPLE, settings, optimiser)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(efficiency, "make_unfiltered_pilot", make_simple_pilot)
        patch.setattr(efficiency, "policy_flyer", flyer_of(make_simple_pilot))
        patch.setattr(efficiency, "make_efficiency_update", lambda *_: update())  # one function is compiled once
        yield


def efficiency_settings(**changes):
    fixed = {"steps": 3, "batch": BATCH, "horizon": HORIZON, "scenes": FAMILIES, "seed": 4}
    return EfficiencySettings(**fixed, **changes)


@pytest.fixture(scope="module")
def efficient(simple_efficiency):
    """One run of the first stage, twice."""
    settings = efficiency_settings(checkpoint_every=1)
    recorders = ListRecorder(), ListRecorder()
    return [efficiency.train_efficiency(SIMPLE, settings, recorder) for recorder in recorders], recorders


def test_the_same_seed_trains_the_same_policy_to_the_last_bit(efficient):
    (first, again), (recorder, other) = efficient
    jax.tree.map(np.testing.assert_array_equal, first.policy, again.policy)
    np.testing.assert_equal(first.report, again.report)
    np.testing.assert_equal(recorder.rows, other.rows)


def test_the_recorder_hears_of_every_update_and_gets_all_that_a_resume_needs(efficient):
    _, (recorder, _) = efficient
    assert recorder.phases == [("efficiency", 3)]
    assert [row["step"] for row in recorder.rows] == [0.0, 1.0, 2.0]
    for row in recorder.rows:
        parts = [value for name, value in row.items() if name.startswith("loss/") and name != "loss/total"]
        assert row["loss/total"] == pytest.approx(sum(parts), rel=1e-5)
        assert row["grad_norm/policy"] > 0.0
    assert set(recorder.checkpoints) == {"final"}
    assert set(recorder.checkpoints["final"]) == {"policy", "optimiser", "step"}
    assert recorder.checkpoints["final"]["step"] == 3


def test_an_interrupted_run_goes_on_to_the_same_policy_to_the_last_bit(efficient):
    (whole, _), (recorder, _) = efficient
    rest = ListRecorder(saved=recorder.states[1])
    resumed = efficiency.train_efficiency(SIMPLE, efficiency_settings(), rest)
    jax.tree.map(np.testing.assert_array_equal, resumed.policy, whole.policy)
    np.testing.assert_equal(rest.rows, recorder.rows[1:])


def test_training_moves_the_policy(efficient):
    (result, _), _ = efficient
    start = efficiency.initial_policy_params(SIMPLE, efficiency.report_key(jax.random.key(4), 0))
    assert float(tree_norm(jax.tree.map(jnp.subtract, result.policy, start))) > 1e-3


@pytest.mark.slow
def test_pretraining_reduces_the_loss_and_calibrates():
    settings = PretrainingSettings(steps=60, batch=32, learning_rate=0.01, log_every=1)
    recorder = ListRecorder()
    result = pretraining.pretrain_barrier(SYSTEM, settings, random_policy(SYSTEM), recorder)
    losses = [row["loss/total"] for row in recorder.rows]
    assert len(losses) == 60 and np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    assert "validation/boundary_error_mean" in recorder.rows[-1]
    saved = recorder.checkpoints["final"]
    assert saved["margin"] == result.margin == result.report["margin"] >= 0.0
    jax.tree.map(np.testing.assert_array_equal, saved["barrier"], result.barrier)
    assert result.report["audit_correlation"] > 0.9
    assert result.comparison.neural.shape == (64,)


OPEN = Monitor(gate="warn")
"""What misses its threshold goes on: these flights are too short to reach anything."""


def safety_settings(**changes):
    stage = Stage(name="only", steps=2, horizon=HORIZON, **changes.pop("stage", {}))
    tiny = Curriculum(name="tiny", stages=(stage,), monitor=OPEN)
    settings = {"curriculum": tiny, "batch": BATCH, "report_flights": 2, "scenes": FAMILIES}
    return SafetySettings(**(settings | changes))


MARGIN = jnp.float32(12.0)
"""[m]: makes the barrier negative everywhere, so that the filter acts and its gradient matters."""
NETWORKS = {"policy": random_policy(SYSTEM), "barrier": random_barrier(SYSTEM)}


@pytest.fixture(scope="module")
def simply_controlled(few_flights):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joint_update, "make_filtered_pilot", make_simple_pilot)
        patch.setattr(safety, "policy_flyer", flyer_of(make_simple_pilot))
        yield


def gradient_program(task_gradient=0.0, system=SIMPLE):
    """Compiled (factor on the flight's losses) -> gradients of the loss in both networks, and the update's figures.

    The factor is traced, so that one program serves all: compiling it is what such a test takes its time for.
    """
    settings = safety_settings(barrier_task_gradient=task_gradient)
    conditions = joint_update.conditions_of(settings.curriculum, settings.curriculum.stages[0])
    networks = {"policy": random_policy(system), "barrier": random_barrier(system)}

    @jax.jit
    def run(factor):
        def multiplied(*given, **named):
            loss = make_flight_loss(*given, **named)
            return lambda *flight: jax.tree.map(lambda term: factor * term, loss(*flight))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(joint_update, "make_flight_loss", multiplied)
            gradient = joint_update.make_safety_gradient(system, settings, HORIZON)
        found, (figures, _) = gradient(networks, conditions, MARGIN, jax.random.key(0), None)
        return found, figures

    return run


def distance(one, other):
    return float(tree_norm(jax.tree.map(jnp.subtract, one, other)))


@pytest.mark.slow
def test_both_networks_learn_through_the_filter():
    gradient, figures = gradient_program(system=SYSTEM)(1.0)
    assert float(tree_norm(gradient["policy"])) > 0.0 and float(tree_norm(gradient["barrier"])) > 0.0
    assert figures["filter/intervention_rate"] > 0.5
    reported_only = {"loss/total", "loss/cbf_safe", "loss/cbf_unsafe", "loss/cbf_hdot"}  # no weight by default
    losses = [value for name, value in figures.items() if name.startswith("loss/") and name not in reported_only]
    assert figures["loss/total"] == pytest.approx(float(sum(losses)), rel=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("simply_controlled")
def test_the_flights_loss_does_not_reach_the_barrier_by_default():
    """Ten times the objective changes the policy's gradient and leaves the barrier's as it is."""
    closed = gradient_program(0.0)
    (plain, _), (scaled, _) = closed(1.0), closed(10.0)
    policy, barrier = (float(tree_norm(plain[name])) for name in ("policy", "barrier"))
    assert distance(scaled["policy"], plain["policy"]) > policy > 0.0
    # Rounding of a differently fused program.
    assert distance(scaled["barrier"], plain["barrier"]) < 1e-4 * barrier


@pytest.mark.slow
@pytest.mark.usefixtures("simply_controlled")
def test_the_task_gradient_of_weight_one_reaches_the_barrier_and_changes_nothing_for_the_policy():
    (plain, _), (open_, _) = gradient_program(0.0)(1.0), gradient_program(1.0)(1.0)
    policy, barrier = (float(tree_norm(plain[name])) for name in ("policy", "barrier"))
    assert distance(open_["barrier"], plain["barrier"]) > 1e-2 * barrier
    assert distance(open_["policy"], plain["policy"]) < 1e-4 * policy


@pytest.fixture
def every_state_is_near(monkeypatch):
    """A few short flights may stay far from the boundary, and leave nothing to calibrate by."""
    monkeypatch.setattr(calibration, "BOUNDARY", np.inf)


@pytest.mark.slow
@pytest.mark.usefixtures("simply_controlled", "every_state_is_near")
def test_a_stage_that_misses_its_threshold_is_extended_once_and_says_so():
    recorder = ListRecorder()
    settings = safety_settings(stage={"success_threshold": 1.0})
    result = safety.train_safety(SYSTEM, settings, *NETWORKS.values(), 12.0, recorder)
    assert recorder.phases == [("safety", 2), ("safety", 3)]
    updates = [row for row in recorder.rows if "loss/total" in row]
    assert [row["step"] for row in updates] == [0.0, 1.0, 2.0]
    assert all(row["grad_norm/policy"] > 0.0 and row["grad_norm/cbf"] > 0.0 for row in updates)
    assert all(row["curriculum/stage"] == 0.0 and row["curriculum/blend"] == 1.0 for row in updates)
    assert [step for step, _ in recorder.events] == [2, 3]
    assert "stage only: success" in recorder.events[0][1] and "training 1 more steps" in recorder.events[0][1]
    assert "still success" in recorder.events[1][1]
    assert sum("eval/success_rate" in row for row in recorder.rows) == 2
    assert sum("held_out/cbf_value_before" in row for row in recorder.rows) == 2
    assert set(recorder.checkpoints) == {"stage_1_only", "final"}
    assert recorder.checkpoints["final"]["state"].step == 3
    assert recorder.checkpoints["final"]["margin"] == result.margin
    assert distance(result.policy, NETWORKS["policy"]) > 0.0 and distance(result.barrier, NETWORKS["barrier"]) > 0.0


@pytest.mark.slow
@pytest.mark.usefixtures("simply_controlled", "every_state_is_near")
def test_joint_training_goes_on_from_any_update_of_a_curriculum_to_the_same_networks():
    stages = [Stage(name=name, steps=2, horizon=HORIZON, success_threshold=1.0) for name in ("one", "two")]
    settings = safety_settings(curriculum=Curriculum(name="two", stages=stages, monitor=OPEN), checkpoint_every=1)
    recorder = ListRecorder()
    whole = safety.train_safety(SYSTEM, settings, *NETWORKS.values(), 12.0, recorder)
    assert set(recorder.states) == {1, 2, 3, 4, 5, 6}, "each stage is extended by one update"
    for step in (2, 3, 5):
        rest = ListRecorder(saved=recorder.states[step])
        resumed = safety.train_safety(SYSTEM, settings, *NETWORKS.values(), 12.0, rest)
        jax.tree.map(np.testing.assert_array_equal, resumed.barrier, whole.barrier)
        jax.tree.map(np.testing.assert_array_equal, resumed.policy, whole.policy)
        np.testing.assert_equal(resumed.report, whole.report)
        later = [row for row in recorder.rows if "loss/total" in row and row["step"] >= step]
        np.testing.assert_equal([row for row in rest.rows if "loss/total" in row], later)
        assert set(rest.events) <= set(recorder.events)


@pytest.mark.usefixtures("simple_efficiency")
def test_a_loss_that_is_not_finite_stops_the_stage_and_is_named():
    settings = efficiency_settings(nonfinite_limit=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            efficiency,
            "initial_policy_params",
            lambda system, key: jax.tree.map(lambda x: x * jnp.nan, random_policy(system)),
        )
        recorder = ListRecorder()
        with pytest.raises(TrainingError, match="at step 0 in policy/.*; its state .* checkpoints/nonfinite_0 "):
            efficiency.train_efficiency(SIMPLE, settings, recorder)
    assert len(recorder.rows) == 1, "what went wrong is recorded before training stops"
    assert set(recorder.checkpoints) == {"nonfinite_0"}
