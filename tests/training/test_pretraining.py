"""Pretraining beyond the general sampler: strata, an annealed teacher, and a barrier to begin with."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.barrier.analytic import make_analytic_barrier
from drone_cbf.barrier.lessons import make_graph_lesson
from drone_cbf.barrier.strata import BAND
from drone_cbf.config import BarrierConfig, SceneConfig
from drone_cbf.errors import TrainingError
from drone_cbf.recorder import ListRecorder
from drone_cbf.training.barrier import sampled_states, validation
from drone_cbf.training.barrier.losses import make_sobolev_loss
from drone_cbf.training.settings import PretrainingSettings
from drone_cbf.training.stages import pretraining
from tests.perception.worlds import capsules, crowd, graph_seen, random_barrier, random_policy, scene_of, small_system

SYSTEM = small_system(scene=SceneConfig(obstacles=6, cloud_obstacles=6, ring_obstacles=6))
SETTINGS = PretrainingSettings(
    steps=4, batch=16, strata=("boundary:3", "gap:1"), temperatures=(0.3,), checkpoint_every=2, log_every=1, seed=3
)


def drawn_scenes(system, families, count):
    """Scenes without a sampler to compile: one world, as often as asked."""
    scene = scene_of(crowd(0, count=6, half=(2.0, 2.0, 1.0)), start=(4.0, 4.0, 0.0))
    return lambda key, augment: jax.tree.map(lambda leaf: jnp.stack([leaf] * count), scene)


@functools.cache
def mixed_states():
    return jax.jit(sampled_states.make_sampled_batch(SYSTEM, SETTINGS.scenes, 16, SETTINGS.strata))


def only_once(make):
    """What ``make`` gives first, ever after: settings and seed are the same in every run here."""
    first = []

    def made(*arguments):
        if not first:
            first.append(make(*arguments))
        return first[0]

    return made


@pytest.fixture(autouse=True, scope="module")
def few_states():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampled_states, "make_batch_sampler", drawn_scenes)
        patch.setattr(validation, "STRATA", ("boundary", "gap"))
        patch.setattr(validation, "STRATA_STATES", 16)
        patch.setattr(pretraining, "KEPT_NEAR_BOUNDARY", 16)
        patch.setattr(pretraining, "make_lesson_collector", lambda *_: lambda _, __, ___, key: mixed_states()(key))
        patch.setattr(pretraining, "audit_analytic_barrier", lambda *_: {})
        for compiled in (
            "sample_held_out_strata",
            "make_comparer",
            "make_pretraining_update",
        ):  # once for all
            patch.setattr(pretraining, compiled, only_once(getattr(pretraining, compiled)))
        yield


def pretrained(settings, start=None, **recorder):
    recorder = ListRecorder(**recorder)
    return pretraining.pretrain_barrier(SYSTEM, settings, random_policy(SYSTEM), recorder, start), recorder


@pytest.fixture(scope="module")
def mixed(few_states):
    return pretrained(SETTINGS)


def test_a_batch_holds_every_stratum_in_its_exact_share():
    graphs = mixed_states()(jax.random.key(0)).graph
    h = np.abs(jax.jit(jax.vmap(make_analytic_barrier(SYSTEM)))(graphs))
    assert h.shape == (16,) and h[:12].max() <= BAND + 0.005, "three quarters are at the boundary"
    distances = np.sort(np.linalg.norm(graphs.relative_position[12:], axis=-1), axis=-1)
    assert np.diff(distances[:, :2]).max() < 0.06, "the rest is in gaps"


def test_every_stratum_is_reported_on_states_of_its_own(mixed):
    result, recorder = mixed
    last = recorder.rows[-1]
    for stratum in ("boundary", "gap"):
        assert set(result.strata[stratum]) == {
            "boundary_error_mean", "boundary_error_p99", "boundary_overestimate_p99", "gradient_cosine",
            "value_error_mean", "states_near_boundary",
        }  # fmt: skip
        for name, value in result.strata[stratum].items():
            assert last[f"validation/{stratum}/{name}"] == pytest.approx(value, nan_ok=True)
    assert result.strata["boundary"]["states_near_boundary"] == 8.0 and last["validation/states"] == 16.0
    assert result.strata["boundary"] != result.strata["gap"]


def test_a_barrier_to_begin_with_goes_on_where_its_run_ended(mixed):
    result, recorder = mixed
    before = jax.device_get(result.barrier)
    _, further = pretrained(SETTINGS, start=result.barrier)
    ended = {
        name.removeprefix("validation/"): value for name, value in recorder.rows[-1].items() if "validation/" in name
    }
    began = {name.removeprefix("initial/"): value for name, value in further.rows[0].items() if "initial/" in name}
    assert began == pytest.approx(ended, nan_ok=True) and "gap/boundary_error_mean" in began
    jax.tree.map(np.testing.assert_array_equal, result.barrier, before)  # lent, not given away
    assert not any("initial/" in name for row in [*further.rows[1:], *recorder.rows] for name in row)
    scratch, going_on = recorder.rows[0]["loss/total"], further.rows[0]["loss/total"]
    assert going_on != scratch


def test_every_second_update_is_stored_and_the_last_one_with_its_validation(mixed):
    _, every = mixed
    _, recorder = pretrained(SETTINGS.model_copy(update={"log_every": 2}))
    assert [row["step"] for row in recorder.rows] == [0, 2, 3] and "validation/gradient_cosine" in recorder.rows[-1]
    np.testing.assert_equal(recorder.rows, [every.rows[step] for step in (0, 2, 3)])


def test_a_skipped_update_is_stored_whatever_is_due():
    broken = jax.tree.map(lambda leaf: leaf * jnp.nan, random_barrier(SYSTEM, seed=5))
    recorder = ListRecorder()
    settings = SETTINGS.model_copy(update={"log_every": 100, "nonfinite_limit": 1})
    with pytest.raises(TrainingError, match="nonfinite_limit = 1"):
        pretraining.pretrain_barrier(SYSTEM, settings, random_policy(SYSTEM), recorder, broken)
    assert [row["step"] for row in recorder.rows] == [0, 1]


@pytest.mark.parametrize("begun", [False, True], ids=["from scratch", "from a barrier"])
def test_an_interrupted_run_goes_on_to_the_same_barrier_to_the_last_bit(mixed, begun):
    start = random_barrier(SYSTEM, seed=5) if begun else None
    whole, recorder = pretrained(SETTINGS, start) if begun else mixed
    resumed, rest = pretrained(SETTINGS, start, saved=recorder.states[2])
    jax.tree.map(np.testing.assert_array_equal, resumed.barrier, whole.barrier)
    np.testing.assert_equal(rest.rows, recorder.rows[2:])
    np.testing.assert_equal(resumed.report, whole.report)


def test_the_teacher_cools_in_even_parts_down_to_the_configured_temperature():
    settings = PretrainingSettings(steps=7, temperatures=(0.24, 0.12))
    at = pretraining.make_temperature_schedule(SYSTEM, settings)
    cooled = [float(at(jnp.int32(step))) for step in range(7)]
    assert cooled == pytest.approx([0.24, 0.24, 0.24, 0.12, 0.12, 0.06, 0.06])
    assert SYSTEM.barrier.temperature == 0.06
    assert pretraining.make_temperature_schedule(SYSTEM, PretrainingSettings())(jnp.int32(0)) is None


def test_the_loss_at_a_temperature_is_that_of_a_teacher_configured_so():
    graph = graph_seen(SYSTEM, crowd(0, count=6), [0.0, 0.0, 0.0], [2.0, 0.5, 0.0])
    barrier = random_barrier(SYSTEM)
    warm = SYSTEM.model_copy(update={"barrier": BarrierConfig(features=8, temperature=0.3)})
    cold, warmer = (taught(system, graph, graph) for system in (SYSTEM, warm))
    losses = jax.jit(make_sobolev_loss(SYSTEM))  # given a temperature or not: two programs, each compiled as a whole
    own, asked = jax.jit(make_sobolev_loss(warm))(barrier, warmer), losses(barrier, cold, jnp.float32(0.3))
    assert {name: float(value) for name, value in asked.items()} == pytest.approx({k: float(v) for k, v in own.items()})
    assert float(losses(barrier, cold)["cbf_value"]) != pytest.approx(float(own["cbf_value"]))


def taught(system, *graphs):
    """Lessons on these graphs, leading axis."""
    return jax.jit(jax.vmap(make_graph_lesson(system)))(jax.tree.map(lambda *leaves: jnp.stack(leaves), *graphs))


def test_where_the_drone_has_collided_the_barrier_learns_a_value_and_no_gradient():
    """One centimetre from a surface and flying past it, the slope of the closing speed is hundreds of 1/s."""
    barrier, losses = random_barrier(SYSTEM), jax.jit(make_sobolev_loss(SYSTEM))

    def loss_at(*distances):
        ball = capsules([[1.0, 0.0, 0.0]], 0.3)
        seen = [graph_seen(SYSTEM, ball, [0.7 - distance, 0.0, 0.0], [0.0, 3.0, 0.0]) for distance in distances]
        return losses(barrier, taught(SYSTEM, *seen))

    near, radius = 0.01, SYSTEM.physics.drone_radius
    free, mixed, collided = loss_at(radius + 0.05), loss_at(radius + 0.05, near), loss_at(near)
    assert float(mixed["cbf_gradient"]) == pytest.approx(float(free["cbf_gradient"]), rel=1e-5)
    assert float(collided["cbf_gradient"]) == 0.0 and float(collided["cbf_value"]) > 0.0
    assert float(mixed["cbf_value"]) != pytest.approx(float(free["cbf_value"]))
    assert float(loss_at(radius + 0.001)["cbf_gradient"]) > 0.0, "up to the collision it is asked for"
