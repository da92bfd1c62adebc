"""The neural barrier's symmetries and limits, the blend, and calibration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.arrays import tree_norm
from drone_cbf.barrier.analytic import make_analytic_barrier
from drone_cbf.barrier.calibration import (
    BOUNDARY,
    CONFIDENCE,
    Comparison,
    braking_audit,
    calibration_margin,
    calibration_report,
    make_comparison,
    usable_margin,
)
from drone_cbf.barrier.lessons import make_graph_lesson
from drone_cbf.barrier.neural import initial_barrier_params, make_blended_barrier, make_neural_barrier
from drone_cbf.barrier.samples import lesson_sampler, make_open_sampler
from drone_cbf.errors import TrainingError
from drone_cbf.perception.graphs import FAR, empty_graph
from drone_cbf.scenes.families import make_scene_sampler
from tests.perception.worlds import crowd, graph_seen, random_barrier, small_system

SYSTEM = small_system()
ROUNDING = 2e-5
"""[m]: float32 through a few layers, values up to 10 m."""
NEURAL = make_neural_barrier(SYSTEM)


@pytest.fixture(scope="module")
def graph():
    return graph_seen(SYSTEM, crowd(0), [0.1, 0.2, 0.3], [1.0, -0.5, 0.2])


def test_the_order_of_the_nodes_does_not_matter(graph):
    order = np.random.default_rng(0).permutation(SYSTEM.sensor.neighbours)
    shuffled = graph.replace(
        relative_position=graph.relative_position[order],
        relative_velocity=graph.relative_velocity[order],
        mask=graph.mask[order],
    )
    params = random_barrier(SYSTEM)
    assert NEURAL(params)(shuffled) == pytest.approx(float(NEURAL(params)(graph)), abs=ROUNDING)


@pytest.mark.parametrize("seed", [0, 1])
def test_empty_space_has_the_free_value_whatever_was_learned(seed):
    free = NEURAL(random_barrier(SYSTEM, seed))(empty_graph(SYSTEM.sensor))
    assert free == pytest.approx(SYSTEM.sensor.range, abs=ROUNDING)


@pytest.mark.parametrize("filler", [0.0, 5.0, FAR])
def test_what_stands_in_a_masked_node_does_not_matter(graph, filler):
    mask = graph.mask.at[2].set(False)
    params = random_barrier(SYSTEM)
    plain = NEURAL(params)(graph.replace(mask=mask))
    filled = NEURAL(params)(graph.replace(mask=mask, relative_position=graph.relative_position.at[2].set(filler)))
    assert filled == plain


def test_the_untrained_barrier_of_one_node_falls_as_it_comes_near():
    params = initial_barrier_params(SYSTEM, jax.random.key(0))
    graph = empty_graph(SYSTEM.sensor)

    def at(distance):
        position = graph.relative_position.at[0].set(jnp.array([distance, 0.0, 0.0]))
        return NEURAL(params)(graph.replace(relative_position=position, mask=graph.mask.at[0].set(True)))

    values = [float(at(d)) for d in (0.2, 1.0, 3.0)]
    assert values == sorted(values) and values[-1] < SYSTEM.sensor.range


@pytest.mark.parametrize("blend", [0.0, 0.25, 1.0])
def test_the_blend_mixes_teacher_and_calibrated_network(graph, blend):
    params = random_barrier(SYSTEM)
    mixed = make_blended_barrier(SYSTEM)(params, jnp.float32(0.07), jnp.float32(blend))(graph)
    teacher, network = float(make_analytic_barrier(SYSTEM)(graph)), float(NEURAL(params)(graph)) - 0.07
    assert abs(teacher - network) > 0.01
    assert mixed == pytest.approx((1.0 - blend) * teacher + blend * network, abs=ROUNDING)


def test_the_margin_counts_by_its_factor(graph):
    unsure = SYSTEM.model_copy(update={"barrier": SYSTEM.barrier.model_copy(update={"margin_factor": 0.5})})
    params, margin, blend = random_barrier(SYSTEM), jnp.float32(0.3), jnp.float32(1.0)
    with_half, with_all = (make_blended_barrier(system)(params, margin, blend)(graph) for system in (unsure, SYSTEM))
    assert with_half - with_all == pytest.approx(0.15, abs=ROUNDING)


def test_at_blend_zero_the_network_has_no_gradient_and_at_one_it_has(graph):
    blended = make_blended_barrier(SYSTEM)
    gradient = jax.jit(jax.grad(lambda params, blend: blended(params, jnp.float32(0.0), blend)(graph)))
    norms = [float(tree_norm(gradient(random_barrier(SYSTEM), blend))) for blend in (0.0, 1.0)]
    assert norms[0] == 0.0 and norms[1] > 0.0


def comparison(count=4000, offset=0.05, near=0.5):
    """States with h uniform over +-1 m, and a network that over-estimates by ``offset`` + a known spread near zero."""
    rng = np.random.default_rng(0)
    analytic = rng.uniform(-1.0, 1.0, count)
    error = np.where(np.abs(analytic) < BOUNDARY, offset + 0.01 * rng.normal(size=count), 7.0)
    return Comparison(analytic=analytic, neural=analytic + error, cosine=np.full(count, near)), error


def test_the_margin_covers_the_overestimate_near_the_boundary_and_ignores_the_rest():
    synthetic, error = comparison()
    near = np.abs(np.asarray(synthetic.analytic)) < BOUNDARY
    margin = calibration_margin(synthetic)
    assert margin == pytest.approx(np.quantile(error[near], CONFIDENCE), abs=1e-12)
    assert np.mean(error[near] <= margin) >= CONFIDENCE - 1.0 / near.sum()


def test_a_network_that_underestimates_needs_no_margin():
    assert calibration_margin(comparison(offset=-0.5)[0]) == 0.0


def test_without_a_state_near_the_boundary_the_margin_is_infinite():
    far = Comparison(analytic=np.full(50, 2.0), neural=np.full(50, 2.0), cosine=np.ones(50))
    report = calibration_report(far)
    assert calibration_margin(far) == np.inf == report["margin"]
    assert report["states_near_boundary"] == 0.0 and np.isnan(report["gradient_cosine"])
    with pytest.raises(TrainingError, match="none of 50 held-out states has .* raise report_flights"):
        usable_margin(report)


def test_the_report_says_what_stands_behind_the_margin():
    synthetic, error = comparison()
    near = np.abs(np.asarray(synthetic.analytic)) < BOUNDARY
    report = calibration_report(synthetic)
    assert report["states"] == near.size and report["states_near_boundary"] == near.sum()
    assert report["boundary_error_mean"] == pytest.approx(np.abs(error[near]).mean())
    assert report["gradient_cosine"] == pytest.approx(0.5)


def test_a_barrier_compared_with_itself_is_perfect(graph):
    teacher = make_analytic_barrier(SYSTEM)
    same = make_comparison(SYSTEM)(teacher, make_graph_lesson(SYSTEM)(graph))
    assert same.analytic == same.neural
    assert same.cosine == pytest.approx(1.0, abs=1e-5)


def test_the_audit_of_a_shifted_barrier_is_the_shift():
    clearance = np.random.default_rng(0).uniform(size=100)
    audit = braking_audit(clearance - 0.1, clearance)
    assert audit["audit_difference_mean"] == pytest.approx(-0.1) == audit["audit_difference_max"]
    assert audit["audit_difference_std"] == pytest.approx(0.0, abs=1e-12)
    assert audit["audit_correlation"] == pytest.approx(1.0)


@pytest.mark.parametrize("family", ["random_cloud", "forest"])
def test_sampled_states_are_spread_around_the_boundary(family):
    scene = make_scene_sampler(family, "random", SYSTEM.scene)
    sampler = lesson_sampler(make_open_sampler(SYSTEM), SYSTEM)

    def one(key):
        lesson = sampler(scene(key), jax.random.fold_in(key, 1))
        nearest = jnp.min(jnp.linalg.norm(lesson.graph.relative_position, axis=-1))
        return lesson.value, jnp.linalg.norm(lesson.graph.velocity), nearest

    value, speed, nearest = (np.asarray(x) for x in jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 2000)))
    assert np.mean(np.abs(value) < BOUNDARY) > 0.15
    assert np.mean(value > 0) > 0.1 and np.mean(value < 0) > 0.1
    assert speed.max() <= 1.3 * SYSTEM.objective.max_speed * (1.0 + 1e-5)
    assert speed.min() < 0.5 and np.mean(nearest < 0.3) > 0.05
