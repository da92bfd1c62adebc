"""The stages as members of a population: what each does alone, whatever becomes of the others."""

import functools

import jax
import numpy as np
import pytest

from drone_cbf.config import SensorConfig
from drone_cbf.recorder import ListRecorder
from drone_cbf.training.population import Population
from drone_cbf.training.settings import EfficiencySettings
from drone_cbf.training.stages import efficiency
from tests.perception.worlds import few_obstacles, small_system
from tests.training.scripted_training import always_good, column, stage, train_seeds, until
from tests.training.simple_flights import make_simple_pilot

ROUNDING = 1e-4
"""Relative: a program for several lanes sums in another order, which three updates amplify. Measured: 4e-6."""
SYSTEM = small_system(
    scene=few_obstacles(1, forest_wind=0.0), sensor=SensorConfig(surfaces="raw", estimator="raw", neighbours=1)
)
SEEDS = (4, 0, 7)
COURSE = (stage("first", steps=6), stage("second", steps=3))


def never_good(policy, blend, stage):
    return 0.0, 9.0


SCRIPTS = (always_good, until(3.5), never_good, until(7.5))
"""The first is left alone, the second and the last are rolled back at different times, the third gives up."""


def assert_same(one, other):
    assert one.recorder.rows == other.recorder.rows
    assert one.recorder.events == other.recorder.events
    assert (one.final, one.error) == (other.final, other.error)


def test_each_member_is_measured_rolled_back_extended_and_given_up_as_by_itself():
    """Learning and flying are exact arithmetic here, so all must agree to the last bit."""
    given = {"patience": 0, "rollbacks": 2, "rate_backoff": 0.5}
    apart, together = (train_seeds(SCRIPTS, *COURSE, together=both, **given) for both in (False, True))
    for one, other in zip(apart, together, strict=True):
        assert_same(one, other)
    roll_backs = [column(run, "monitor/rollbacks") for run in together]
    assert not roll_backs[0] and roll_backs[1] and roll_backs[1] != roll_backs[3]
    assert together[2].error and not together[0].error, "one fails and the others go on"
    rates = [column(run, "adaptive/learning_rate_scale") for run in together]
    assert not rates[0] and rates[1], "the learning rate of one member alone was lowered"


@pytest.mark.parametrize("steps", [(1, 1, 1, 1), (4, 2, 3, 5)])
def test_a_population_goes_on_from_whatever_step_each_member_has_stored(steps):
    """A killed one has stored its members at different times."""
    whole = train_seeds(SCRIPTS, *COURSE, together=True, patience=5)
    saved = [run.recorder.states[step] for run, step in zip(whole, steps, strict=True)]
    resumed = train_seeds(SCRIPTS, *COURSE, together=True, saved=saved, patience=5)
    for run, rest, step in zip(whole, resumed, steps, strict=True):
        later = [row for row in run.recorder.rows if "loss/total" in row and row["step"] >= step]
        assert [row for row in rest.recorder.rows if "loss/total" in row] == later
        assert rest.final == run.final


@pytest.fixture(scope="module")
def efficient():
    """Several seeds of the first stage as a population, its second half once more, and one seed alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(efficiency, "make_unfiltered_pilot", make_simple_pilot)
        patch.setattr(efficiency, "measure_policy", lambda *_: {"success_rate": 0.0})
        whole = train_efficiency(SEEDS)
        rest = train_efficiency(SEEDS, [recorder.states[1] for _, recorder in whole])
        recorder = ListRecorder()
        alone = efficiency.train_efficiency(SYSTEM, settings_of(SEEDS[1]), recorder), recorder
    return whole, rest, alone


def settings_of(seed):
    return EfficiencySettings(steps=3, batch=3, horizon=8, scenes=("random_cloud",), checkpoint_every=1, seed=seed)


def train_efficiency(seeds, saved=None):
    population = Population(len(seeds))
    recorders = [ListRecorder(saved=state) for state in saved or [None] * len(seeds)]
    train = functools.partial(efficiency.train_efficiency, SYSTEM, programs=population)
    given = zip(map(settings_of, seeds), recorders, strict=True)
    runs = [functools.partial(train, settings, recorder) for settings, recorder in given]
    return list(zip(population.train(runs), recorders, strict=True))


def test_a_member_learns_what_its_seed_learns_alone_within_rounding(efficient):
    whole, _, (alone, recorder) = efficient
    member, recorded = whole[1]
    for row, other in zip(recorder.rows, recorded.rows, strict=True):
        assert row.keys() == other.keys()
        np.testing.assert_allclose(list(other.values()), list(row.values()), rtol=ROUNDING, atol=1e-6)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=ROUNDING, atol=1e-6), member.policy, alone.policy)
    assert recorded.rows[0]["loss/total"] != whole[0][1].rows[0]["loss/total"], "every seed draws its own scenes"


def test_a_resumed_population_learns_the_same_to_the_last_bit(efficient):
    whole, rest, _ = efficient
    for (member, recorder), (resumed, repeated) in zip(whole, rest, strict=True):
        jax.tree.map(np.testing.assert_array_equal, resumed.policy, member.policy)
        np.testing.assert_equal(repeated.rows, recorder.rows[1:])
