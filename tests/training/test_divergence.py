"""Real flights under the monitor: other drones than the known one, and a learning rate a hundred times too high.

Flights, their loss, its gradient through the physics, optimisers and measurements are the real ones. The policy is a
spring-damper with two learned gains and nothing filters it, so that little is compiled; steps of 0.2 s let a flight
arrive within twenty of them.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.config import OptimiserConfig, PhysicsConfig, SensorConfig
from drone_cbf.controller import ControllerParams, Decision
from drone_cbf.objectives.losses import make_flight_loss
from drone_cbf.physics.drone import nominal_params
from drone_cbf.recorder import ListRecorder
from drone_cbf.safety.records import Status
from drone_cbf.training.barrier import minibatches
from drone_cbf.training.curriculum.mechanisms import Monitor
from drone_cbf.training.curriculum.schema import Curriculum, Stage
from drone_cbf.training.monitor import measurements
from drone_cbf.training.monitor.measurements import StageMeasures
from drone_cbf.training.population import OwnPrograms
from drone_cbf.training.settings import SafetySettings
from drone_cbf.training.stages import safety
from drone_cbf.training.update import joint_update
from drone_cbf.training.update.optimisers import make_optimiser
from tests.perception.worlds import few_obstacles, random_barrier, small_system
from tests.training.simple_flights import flyer_of, resting

SYSTEM = small_system(
    physics=PhysicsConfig(time_step=0.2, gradient_decay=0.0),
    scene=few_obstacles(1, forest_wind=0.0),
    sensor=SensorConfig(surfaces="raw", estimator="raw", neighbours=1),
)
FLIGHTS = 12
HEALTHY_RATE = 5e-4
"""Learning rate from which this little task learns without falling."""
POLICY, BARRIER = {"gains": jnp.zeros(2)}, random_barrier(SYSTEM)
STAGE = Stage(name="only", steps=10, horizon=20, success_threshold=0.7)
MONITOR = Monitor(every=2, flights=FLIGHTS, robust_flights=FLIGHTS, patience=1, rate_backoff=0.1)


def make_spring_damper(system):
    """Command 3 e^(20 a) goal - 3 e^(20 b) velocity with learned a and b, critically damped enough at the start."""

    def decide(params, memory, graph):
        spring, damper = 3.0 * jnp.exp(20.0 * params.policy["gains"])
        command = spring * graph.goal - damper * graph.velocity
        zero, status = jnp.float32(0.0), jnp.int32(Status.NOMINAL)
        return memory, Decision(command=command, nominal=command, barrier=zero, slack=zero, status=status)

    return decide


def make_small_loss(system):
    """Of the barrier, which has no part in this."""
    return lambda barrier, states: {"cbf_value": sum(jnp.mean(leaf**2) for leaf in jax.tree.leaves(barrier))}


def make_loss_with_slack(system, *, filtered):
    """The flight's loss with a slack of one, where no filter has any: what the penalty makes of it is known."""
    loss = make_flight_loss(system, filtered=filtered)
    return lambda flight, scene: loss(flight, scene) | {"slack": jnp.float32(1.0)}


def settings_of(**changes):
    curriculum = Curriculum(name="tiny", stages=(STAGE,), monitor=changes.pop("monitor", MONITOR))
    small = {"batch": 8, "report_flights": FLIGHTS, "scenes": ("random_cloud",), "seed": 1, "checkpoint_every": 1}
    return SafetySettings(curriculum=curriculum, **small, **changes)


@pytest.fixture(scope="module")
def measures():
    fly = flyer_of(make_spring_damper)(SYSTEM, True, STAGE.horizon)
    return StageMeasures(SYSTEM, settings_of(), lambda horizon: fly, jax.random.key(1), OwnPrograms())


@pytest.fixture(scope="module")
def controller():
    return ControllerParams(policy=POLICY, barrier=BARRIER, margin=jnp.float32(0.0), blend=jnp.float32(1.0))


@pytest.mark.slow
def test_randomised_drones_fly_the_same_scenes_in_the_same_program(measures, controller):
    nominal = measures.fly(controller, 0, STAGE, FLIGHTS)
    other = measures.fly(controller, 0, STAGE, FLIGHTS, random_drones=True)
    np.testing.assert_array_equal(nominal.scenes.start, other.scenes.start)
    first, changed = (flights.flown.trajectories for flights in (nominal, other))
    np.testing.assert_array_equal(first.decisions.command[:, 0], changed.decisions.command[:, 0])
    moved = np.linalg.norm(first.last.position - changed.last.position, axis=-1)
    assert np.median(moved) > 1e-3, "each flies by its own parameters"
    known = nominal_params(SYSTEM.physics)
    assert nominal.scenes.drone is None and np.ptp(other.scenes.drone.gain) > 0.05
    assert float(known.gain) == 1.0


def trained(learning_rate):
    """(recorder, state at the end) of a run of the stage; the barrier is taken as calibrated."""
    recorder = ListRecorder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joint_update, "make_filtered_pilot", make_spring_damper)
        patch.setattr(safety, "policy_flyer", flyer_of(make_spring_damper))
        patch.setattr(minibatches, "make_sobolev_loss", make_small_loss)
        patch.setattr(minibatches, "make_barrier_losses", lambda system, epsilon: lambda barrier, transitions: {})
        patch.setattr(joint_update, "make_flight_loss", make_loss_with_slack)
        patch.setattr(joint_update, "BARRIER_BATCH", 8)
        patch.setattr(joint_update, "make_sampled_batch", resting)
        patch.setattr(measurements, "make_calibrator", lambda *_: lambda state, stage: None)
        patch.setattr(safety, "make_held_out_losses", lambda *_: lambda before, after, measured, root: {})
        patch.setattr(measurements, "calibration_report", lambda comparison, confidence: {"margin": 0.0})
        patch.setattr(safety, "_finish", lambda left, recorder: left.state)
        settings = settings_of(learning_rate=learning_rate)
        return recorder, safety.train_safety(SYSTEM, settings, POLICY, BARRIER, 0.0, recorder)


@pytest.fixture(scope="module")
def poisoned():
    return trained(100.0 * HEALTHY_RATE)


def column(recorder, name):
    return {int(row["step"]): row[name] for row in recorder.rows if name in row}


def test_a_run_that_diverges_at_a_hundredfold_learning_rate_is_rolled_back(poisoned):
    recorder, state = poisoned
    entry = column(recorder, "monitor/entry_success")[0]
    success, rollbacks = column(recorder, "eval/success_rate"), column(recorder, "monitor/rollbacks")
    assert entry >= STAGE.success_threshold > max(success[1], success[3]), "the first four updates ruin the policy"
    assert rollbacks == {3: 1.0}, "patience 1 is exceeded at the second measurement, and once is enough"
    (step, text), *others = recorder.events
    assert step == 4 and not others
    assert "failed 2 measurements in a row" in text and "below 0.7; rolled back to step 0" in text
    rates = column(recorder, "adaptive/learning_rate_scale")
    assert [rates.get(index) for index in (3, 4, 5)] == [None, MONITOR.rate_backoff, MONITOR.rate_backoff]
    assert all(success[index] >= STAGE.success_threshold for index in success if index > 3), "it never falls again"
    assert int(state.step) == STAGE.steps and jnp.all(jnp.isfinite(state.policy["gains"]))
    assert int(recorder.checkpoints["best"]["state"].step) > 4, "what was learned after the roll-back is better"


@pytest.mark.slow
def test_the_same_run_at_its_normal_learning_rate_is_left_alone():
    recorder, state = trained(HEALTHY_RATE)
    assert not recorder.events and not column(recorder, "monitor/rollbacks")
    assert min(column(recorder, "eval/success_rate").values()) >= STAGE.success_threshold
    assert not column(recorder, "adaptive/learning_rate_scale"), "1 until the first roll-back"
    assert float(jnp.max(jnp.abs(state.policy["gains"]))) > HEALTHY_RATE, "it has learned"


def test_a_roll_back_restores_the_optimiser_states(poisoned):
    """AdamW that had gone on with the moments of the poisoned updates would go astray again."""
    recorder, _ = poisoned
    (rolled_back,) = (progress.state for step, progress in recorder.states.items() if step == 4)
    fresh = make_optimiser(OptimiserConfig(learning_rate=1.0), STAGE.steps).init(POLICY)
    jax.tree.map(np.testing.assert_array_equal, rolled_back.policy_optimiser, fresh)
    jax.tree.map(np.testing.assert_array_equal, rolled_back.policy, POLICY)


def test_penalties_are_raised_in_the_loss_and_its_terms_still_add_up(poisoned):
    recorder, _ = poisoned
    slack = column(recorder, "loss/slack")
    assert [slack[index] for index in (3, 4, 5, 6)] == [1.0, 2.0, 2.0, 1.0], (
        "raised by the roll-back, back after a pass"
    )
    for row in recorder.rows:
        terms = [value for name, value in row.items() if name.startswith("loss/") and name != "loss/total"]
        if terms:
            assert row["loss/total"] == pytest.approx(sum(terms), rel=1e-5)
