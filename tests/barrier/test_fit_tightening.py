"""What the double integrator leaves over of a drone tightens the row by as much as it may be wrong."""

import numpy as np
import pytest

from drone_cbf.barrier.analytic import make_analytic_barrier
from drone_cbf.barrier.rows import fit_doubt, make_tightening
from drone_cbf.config import BarrierConfig
from tests.barrier.precise import double_precision, slopes_of  # noqa: F401  (the first is used by being there)
from tests.perception.worlds import PLAIN, capsules, graph_seen, small_system


def head_on_at_a_wall(speed):
    """A drone 2 m before a flat wall that it approaches at ``speed`` [m/s]."""
    wall = capsules([[1e6 + 2.0, 0.0, 0.0]], 1e6)
    return graph_seen(small_system(physics=PLAIN), wall, [0.0, 0.0, 0.0], [speed, 0.0, 0.0])


@pytest.mark.parametrize("error", [0.1, 0.4])
@pytest.mark.parametrize("seed", range(3))
def test_the_tightening_for_the_fit_covers_every_error_in_velocity_of_that_size(error, seed):
    """h where the drone really is stays above zero, and the row holds, for a drone off by e from its double integrator.

    Independent truth: h of the displaced velocity and its rate under q' = z + e, by central differences in float64.
    """
    system, rng = small_system(physics=PLAIN), np.random.default_rng(seed)
    wall, alpha = capsules([[1e6 + 3.0, 0.0, 0.0]], 1e6), system.barrier.class_k_gain
    barrier, velocity = make_analytic_barrier(system), np.array([3.0, 1.0, -0.5])
    graph = graph_seen(system, wall, np.zeros(3), velocity)
    doubt = float(fit_doubt(slopes_of(barrier, graph), graph, error, alpha))

    def h(place, z):
        return float(barrier(graph_seen(system, wall, place, z)))

    def condition(drift):
        rate = (h(1e-5 * (velocity + drift), velocity) - h(-1e-5 * (velocity + drift), velocity)) / 2e-5
        return rate + alpha * h(np.zeros(3), velocity + drift)

    ways = np.array([*rng.normal(size=(8, 3)), [1.0, 0.0, 0.0]])
    worst = min(condition(error * way / np.linalg.norm(way)) for way in ways)
    # h is concave in the closing speed: beyond first order it is lower by |e|^2 / (2 a_brake).
    beyond = alpha * error**2 / (2.0 * system.barrier.braking)
    assert condition(np.zeros(3)) - worst <= doubt + beyond + 1e-6
    assert condition(np.zeros(3)) - worst >= 0.9 * doubt


def test_the_tightening_for_the_fit_asks_nothing_at_rest_and_nothing_of_a_point_mass():
    barrier, config = make_analytic_barrier(small_system(physics=PLAIN)), BarrierConfig()
    rest, flying = head_on_at_a_wall(0.0), head_on_at_a_wall(2.0)
    assert fit_doubt(slopes_of(barrier, rest), rest, 0.4, 5.0) == pytest.approx(0.0, abs=1e-5)
    at = slopes_of(barrier, flying)
    plain = make_tightening(config)(at, flying)
    assert make_tightening(config, 0.0)(at, flying) == plain
    expected = 0.4 * (1.0 + config.class_k_gain * (config.reaction_time + 2.0 / config.braking))
    assert make_tightening(config, 0.4)(at, flying) - plain == pytest.approx(expected, rel=1e-3)
    off = config.model_copy(update={"fit_tightening": 0.0})
    assert make_tightening(off, 0.4)(at, flying) == plain
