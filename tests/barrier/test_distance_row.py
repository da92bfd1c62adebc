"""The row of the original's distance barrier: the second-order condition with the whole Hessian, past fixed points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.barrier.analytic import make_analytic_barrier
from drone_cbf.barrier.rows import make_row_reader
from drone_cbf.config import BarrierConfig
from drone_cbf.perception.graphs import empty_graph
from tests.perception.worlds import PLAIN, small_system

STATES = 60
DIFFERENCES = 1e-5
"""Central differences in float64 with a step of 1e-5: the fourth derivative of the soft minimum is of the order of
speed^3 / temperature^2 = 1e4, times 1e-10, and rounding leaves 1e-16 / 1e-5."""


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with jax.enable_x64(True):
        yield


def system_of(kind):
    return small_system(physics=PLAIN, barrier=BarrierConfig(kind=kind, class_k_gain=2.0, temperature=0.1))


def rates_of_the_row(kind, points, positions, velocities, commands):
    """The rate of psi that the row reckons with, normal . u - offset - alpha psi [m/s], untightened."""
    system = system_of(kind)
    config = system.barrier.model_copy(update={"speed_tightening": 0.0, "noise_tightening": 0.0})
    barrier, read, count = make_analytic_barrier(system), make_row_reader(config), len(points)
    empty = empty_graph(system.sensor.model_copy(update={"neighbours": count}))

    def one(position, velocity, command):
        graph = empty.replace(
            relative_position=position - jnp.asarray(points),
            relative_velocity=jnp.broadcast_to(velocity, (count, 3)),
            mask=jnp.ones(count, bool),
        )
        row = read(barrier, graph)
        return jnp.dot(row.normal, command) - row.offset - config.class_k_gain * row.value

    return np.asarray(jax.jit(jax.vmap(one))(positions, velocities, commands))


def psi(position, velocity, points, system):
    """d' + alpha d of the soft-min distance to ``points`` in NumPy, the weights of the soft minimum written out."""
    away = position - points
    every = np.append(np.linalg.norm(away, axis=-1), system.sensor.range)
    parts = np.exp(-(every - every.min()) / system.barrier.temperature)
    d = every.min() - system.barrier.temperature * np.log(parts.sum())
    slope = (parts[:-1, None] / parts.sum() * away / every[:-1, None]).sum(0)
    d = d - system.physics.drone_radius - system.barrier.safety_margin
    return slope @ velocity + system.barrier.class_k_gain * d


def true_rate(position, velocity, command, points, system, step=1e-5):
    """d psi/dt [m/s] along the motion past points that stay where they are, by central differences."""

    def at(time):
        return psi(position + velocity * time + 0.5 * command * time**2, velocity + command * time, points, system)

    return (at(step) - at(-step)) / (2.0 * step)


@pytest.mark.parametrize("pushed", [0.0, 4.0])
def test_the_row_of_the_distance_barrier_knows_the_true_rate_past_fixed_points(pushed):
    """Without a command the motion is straight at constant velocity: what is left is the Hessian."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-2.0, 2.0, (8, 3))
    positions = rng.uniform(-2.0, 2.0, (20 * STATES, 3))
    clear = np.linalg.norm(positions[:, None] - points, axis=-1).min(-1) > 0.2
    positions = positions[clear][:STATES]
    velocities, commands = 2.0 * rng.normal(size=(STATES, 3)), pushed * rng.normal(size=(STATES, 3))
    ours = rates_of_the_row("distance_hocbf", points, positions, velocities, commands)
    system = system_of("distance_hocbf")
    truth = [true_rate(*state, points, system) for state in zip(positions, velocities, commands, strict=True)]
    np.testing.assert_allclose(ours, truth, rtol=1e-6, atol=DIFFERENCES)


@pytest.mark.parametrize(("kind", "turning"), [("distance_hocbf", 1.0), ("braking", 0.0)])
def test_a_point_passed_sideways_turns_away_for_the_distance_barrier_only(kind, turning):
    """d'' = w_t^2 / s, d' = 0 and so psi' = w_t^2 / s; beside the braking barrier's flat surface nothing changes."""
    distance, speed = 0.8, 3.0
    rates = rates_of_the_row(
        kind, [[0.0, 0.0, 0.0]], np.array([[distance, 0.0, 0.0]]), np.array([[0.0, speed, 0.0]]), np.zeros((1, 3))
    )
    # 1e-4: the epsilon of the safe norm, and the ceiling of the soft minimum, far away.
    assert rates[0] == pytest.approx(turning * speed**2 / distance, rel=1e-4, abs=1e-9)
