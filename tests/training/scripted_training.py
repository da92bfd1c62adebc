"""Joint training with learning and flying replaced by arithmetic that is known exactly.

Policy and barrier are one number each, which every update moves on by ``DRIFT`` times the factor on the learning rate;
measured success falls with the policy's as a script says.
"""

from contextlib import contextmanager
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from drone_cbf.errors import TrainingError
from drone_cbf.recorder import ListRecorder
from drone_cbf.training.curriculum.mechanisms import Learning, Monitor
from drone_cbf.training.curriculum.schema import Curriculum, Stage
from drone_cbf.training.monitor import measurements
from drone_cbf.training.population import Population
from drone_cbf.training.settings import SafetySettings
from drone_cbf.training.stages import safety
from drone_cbf.training.update.gradient_health import skip_if_nonfinite
from tests.perception.worlds import small_system

SYSTEM = small_system()
DRIFT = 1.0
REPORT_FLIGHTS = 7
"""As many measure a stage at its end; the monitor flies others."""
POLICY, BARRIER = {"p": jnp.float32(0.0)}, {"b": jnp.float32(0.0)}


def drifting_update(system, settings, horizon, optimisers):
    """Every update moves both networks by DRIFT; the noise of a stage is the loss, so that it can be made NaN."""

    def update(state, conditions, margin, root):
        rate = 1.0 if conditions.learning_rate is None else conditions.learning_rate
        draw = jax.random.uniform(jax.random.fold_in(root, state.step))
        policy = {"p": state.policy["p"] + DRIFT * rate}
        barrier = {"b": state.barrier["b"] + DRIFT * rate}
        loss = jnp.where(state.policy["p"] >= 100.0, jnp.nan, draw)
        figures = {"loss/total": loss, "curriculum/blend": conditions.blend}
        figures |= {"teacher": conditions.teacher["p"]} if conditions.teacher else {}
        return skip_if_nonfinite(state, state.replace(policy=policy, barrier=barrier, step=state.step + 1), figures)

    return update


class ScriptedMeasures:
    """Measures by a formula (policy's number, blend, stage) -> (success, violation)."""

    def __init__(self, script, monitor):
        self.script, self.monitor, self.seen, self.margins = script, monitor, [], []

    def fly(self, controller, index, stage, flights, *, random_drones=False):
        success, violation = self.script(float(controller.policy["p"]), float(controller.blend), stage)
        self.seen.append((stage.name, float(controller.blend), flights, random_drones))
        self.margins.append((stage.name, flights, round(float(controller.margin), 3)))
        report = {"success_rate": success, "violation_p999": violation}
        return SimpleNamespace(flown=SimpleNamespace(metrics=report), subset=lambda count: None)

    def report(self, controller, index, stage):
        return self.fly(controller, index, stage, self.monitor.flights).flown.metrics

    def robust_report(self, controller, index, stage):
        return self.fly(controller, index, stage, self.monitor.robust_flights, random_drones=True).flown.metrics


def margin_of(state, confidence):
    """A hundredth of the policy's number, to tell when the barrier was calibrated."""
    return {"margin": 0.01 * float(state.policy["p"])}


def numbers_of_barriers(before, after, measured, root):
    """In place of losses on flights that are not flown."""
    return {"cbf_value_before": float(before["b"]), "cbf_value_after": float(after["b"])}


def stage(name="one", steps=6, **changes):
    return Stage(name=name, steps=steps, **{"success_threshold": 0.9, "violation_threshold": 2.0, **changes})


def train(script, *stages, saved=None, borne=3, learning=None, **monitor):
    """(recorder, measures, final policy's number, error if it failed) of a run that bears so many non-finite losses."""
    settings = settings_of(stages, borne, learning, **monitor)
    measures = ScriptedMeasures(script, settings.curriculum.monitor)
    with scripted(lambda system, settings, *_: measures):
        recorder = ListRecorder(saved=saved)
        final, error = attempt(settings, recorder)
    return SimpleNamespace(recorder=recorder, seen=measures.seen, margins=measures.margins, final=final, error=error)


def train_seeds(scripts, *stages, together, saved=None, **monitor):
    """The same of a run for each seed (place in ``scripts``): as a population, or one after the other."""
    each = [settings_of(stages, 3, None, seed=seed, **monitor) for seed in range(len(scripts))]
    recorders = [ListRecorder(saved=state) for state in saved or [None] * len(scripts)]
    population = Population(len(scripts)) if together else None
    runs = [lambda one=one: attempt(*one, population) for one in zip(each, recorders, strict=True)]
    with scripted(lambda system, settings, *_: ScriptedMeasures(scripts[settings.seed], settings.curriculum.monitor)):
        ends = population.train(runs) if together else [run() for run in runs]
    found = zip(recorders, ends, strict=True)
    return [SimpleNamespace(recorder=recorder, final=final, error=error) for recorder, (final, error) in found]


def settings_of(stages, borne, learning, seed=3, **monitor):
    monitor = Monitor(**{"every": 1, "flights": 5, "robust_flights": 3, "gate": "warn", **monitor})
    learning = Learning() if learning is None else learning
    curriculum = Curriculum(name="scripted", stages=stages or (stage(),), monitor=monitor, learning=learning)
    limits = {"report_flights": REPORT_FLIGHTS, "nonfinite_limit": borne}
    return SafetySettings(curriculum=curriculum, checkpoint_every=1, seed=seed, **limits)


def attempt(settings, recorder, programs=None):
    """(final policy's number, None) or (None, reason of the failure)."""
    try:
        return safety.train_safety(SYSTEM, settings, POLICY, BARRIER, 0.0, recorder, programs), None
    except TrainingError as raised:
        return None, str(raised)


@contextmanager
def scripted(measures):
    """Inside, nothing is learned or flown; ``measures`` takes the place of StageMeasures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(safety, "make_safety_update", drifting_update)
        patch.setattr(safety, "StageMeasures", measures)
        patch.setattr(measurements, "make_calibrator", lambda *_: lambda state, stage: state)
        patch.setattr(safety, "make_held_out_losses", lambda *_: numbers_of_barriers)
        patch.setattr(measurements, "calibration_report", margin_of)
        patch.setattr(measurements, "flight_report", lambda report: report)
        patch.setattr(safety, "_finish", lambda left, recorder: float(left.state.policy["p"]))
        yield


def column(run, name):
    """(step, value) of a metric, in the order of recording."""
    return [(int(row["step"]), row[name]) for row in run.recorder.rows if name in row]


def until(limit):
    """Good up to a policy of ``limit``, hopeless beyond."""
    return lambda policy, blend, stage: (1.0, 0.5) if policy <= limit else (0.0, 9.0)


def always_good(policy, blend, stage):
    return 1.0, 0.0
