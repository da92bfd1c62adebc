"""Each stratum's states are what its name says, judged by geometry in float64 NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.barrier.analytic import make_analytic_barrier
from drone_cbf.barrier.calibration import BOUNDARY
from drone_cbf.barrier.gaps import RIDGE, WIDTH, find_tie
from drone_cbf.barrier.samples import TOP_SPEED, bisect
from drone_cbf.barrier.strata import BAND, SLOWEST, make_motion_sampler
from drone_cbf.perception.truth import true_graph
from drone_cbf.physics.motion import Motion
from drone_cbf.training.curriculum.strata_mixture import STRATA
from tests.barrier.reference import value
from tests.perception.worlds import capsules, crowd, scene_of, small_system

SYSTEM = small_system()
STATES = 200
SOLVED = 5e-3
"""[m]: what bisection to 2^-14 of a path a few metres and metres per second long leaves of h."""


@functools.cache
def scenes():
    """Ten worlds drawn in NumPy, over and over: spheres and trunks in a box, a start that is clear of them."""
    drawn = []
    for seed in range(10):
        obstacles = crowd(seed, count=12, half=(2.5, 2.5, 1.0))
        starts = np.random.default_rng(seed).uniform(-4.0, 4.0, (30, 3))
        centre = np.asarray(obstacles.capsules.centre)
        clear = [np.min(np.linalg.norm((start - centre)[:, :2], axis=-1)) for start in starts]
        drawn.append(jax.tree.map(np.asarray, scene_of(obstacles, start=starts[np.argmax(clear)])))
    return jax.tree.map(lambda *leaves: np.stack([leaves[row % 10] for row in range(STATES)]), *drawn)


@functools.cache
def sampler(name):
    sample = make_motion_sampler(name, SYSTEM)

    def one(scene, key):
        motion = sample(scene, key)
        graph = true_graph(motion, scene, None, SYSTEM, SYSTEM.sensor.neighbours)
        return motion, graph, make_analytic_barrier(SYSTEM)(graph)

    return jax.jit(jax.vmap(one))


@functools.cache
def states(name):
    motions, graphs, h = sampler(name)(scenes(), jax.random.split(jax.random.key(2), STATES))
    return jax.device_get((motions, graphs, h))


class World:
    """One scene's obstacles, in float64."""

    def __init__(self, row):
        self.obstacles = jax.tree.map(lambda x: np.float64(x[row]), scenes().obstacles)
        self.shapes = self.obstacles.capsules

    def away(self, point):
        """Vectors from the axes to ``point``, (m, 3)."""
        centre, half = self.shapes.centre.copy(), self.shapes.half_height
        centre[:, 2] = np.clip(point[2], centre[:, 2] - half, centre[:, 2] + half)
        return point - centre

    def distances(self, point):
        return np.linalg.norm(self.away(point), axis=-1) - self.shapes.radius

    def normals(self, point):
        away = self.away(point)
        return away / np.linalg.norm(away, axis=-1, keepdims=True)


def each(name):
    """(world, position, velocity) of every state, float64."""
    motions = states(name)[0]
    for row in range(STATES):
        yield World(row), np.float64(motions.position[row]), np.float64(motions.velocity[row])


@pytest.mark.parametrize("name", STRATA)
def test_states_are_finite_see_a_surface_and_are_the_same_for_the_same_key(name):
    motions, graphs, h = states(name)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((motions, graphs))) and np.isfinite(h).all()
    nearest = np.where(graphs.mask, np.linalg.norm(graphs.relative_position, axis=-1), np.inf).min(-1)
    assert np.mean(nearest < SYSTEM.sensor.range) > 0.99
    assert np.linalg.norm(motions.velocity, axis=-1).max() <= TOP_SPEED * SYSTEM.objective.max_speed * (1.0 + 1e-5)
    assert not motions.thrust.any()
    again, _, _ = sampler(name)(scenes(), jax.random.split(jax.random.key(2), STATES))
    jax.tree.map(np.testing.assert_array_equal, again, motions)
    other, _, _ = sampler(name)(scenes(), jax.random.split(jax.random.key(3), STATES))
    assert np.mean(np.linalg.norm(other.position - motions.position, axis=-1) > 1e-3) > 0.99


def test_boundary_states_have_every_h_of_the_band_and_no_other():
    motions, _, h = states("boundary")
    assert np.abs(h).max() <= BAND + SOLVED
    counts = np.histogram(h, bins=4, range=(-BAND - SOLVED, BAND + SOLVED))[0]
    assert counts.min() > 0.15 * STATES, "even over the band: a quarter each, but for chance"
    exact = np.array([value(p, v, world.obstacles, SYSTEM) for world, p, v in each("boundary")])
    # Nodes beyond the eighth are in the one and not in the other; they lower h by a fraction of the temperature.
    assert np.abs(exact).max() <= BAND + SOLVED + SYSTEM.barrier.temperature
    speeds = np.linalg.norm(motions.velocity, axis=-1)
    assert np.mean((speeds > 0.3) & (speeds < 7.0)) > 0.4, "in half of the states a speed in between was found"
    assert np.std(speeds) > 1.0


def test_gap_states_are_as_far_from_one_surface_as_from_another_and_between_them():
    ties, opposite, balance = [], [], []
    for world, position, velocity in each("gap"):
        distances = world.distances(position)
        one, other = np.argsort(distances)[:2]
        normals = world.normals(position)
        ties.append(distances[other] - distances[one])
        opposite.append(normals[one] @ normals[other])
        speed = np.linalg.norm(velocity) + 1e-9
        balance.append(abs((normals[one] - normals[other]) @ velocity) / speed)
    assert np.max(ties) <= RIDGE + 1e-3 and np.ptp(ties) > 0.5 * RIDGE
    assert np.mean(np.array(opposite) < 0.0) > 0.6, (
        "on two sides of the drone, wherever there is a surface on the other"
    )
    assert np.median(balance) < 0.15, "approached alike"
    assert np.mean(np.abs(states("gap")[2]) < BOUNDARY) > 0.3
    open_ties = [np.diff(np.sort(world.distances(position))[:2])[0] for world, position, _ in each("open")]
    assert np.median(open_ties) > 5.0 * np.median(ties), "which the general sampler rarely is"


def test_corridor_states_fly_between_two_surfaces_and_along_more_of_them_than_others():
    crowds, across = {}, []
    for name in ("corridor", "open"):
        crowds[name] = []
        for world, position, velocity in each(name):
            heading = velocity / (np.linalg.norm(velocity) + 1e-9)
            line = position + np.linspace(0.0, 3.0, 61)[:, None] * heading
            distances = np.array([world.distances(point) for point in line])
            crowds[name].append(np.sum(distances.min(0) < WIDTH) if distances.min() > 0.0 else 0)
            if name == "corridor":
                two = np.sort(distances[:32], axis=-1)
                tie = line[np.argmin(two[:, 1] - two[:, 0])]
                assert np.min(two[:, 1] - two[:, 0]) < 0.05, "the line leads through a place as far from two surfaces"
                one, other = world.normals(tie)[np.argsort(world.distances(tie))[:2]]
                across.append(abs(heading @ (one - other)) / np.linalg.norm(one - other))
    assert np.median(across) < 0.1, "and between them: neither side is approached more than the other"
    assert np.mean(crowds["corridor"]) > 1.5 * np.mean(crowds["open"])
    assert np.mean(np.array(crowds["corridor"]) >= 3) > 0.3


def test_high_speed_states_are_fast_and_half_of_them_head_for_a_surface():
    motions, _, h = states("high_speed")
    speeds = np.linalg.norm(motions.velocity, axis=-1) / SYSTEM.objective.max_speed
    assert speeds.min() >= SLOWEST * (1.0 - 1e-5) and speeds.max() <= TOP_SPEED * (1.0 + 1e-5)
    assert speeds.max() > 1.2 and speeds.min() < 0.7
    heads_on, at_the_nearest = [], []
    for world, position, velocity in each("high_speed"):
        cosines = -world.normals(position) @ velocity / np.linalg.norm(velocity)
        heads_on.append(np.max(cosines) > 0.59)
        at_the_nearest.append(cosines[np.argmin(world.distances(position))] > 0.59)
    assert np.mean(heads_on) > 0.4, "the aimed half, and those that head for another surface than the one they pass"
    assert np.mean(at_the_nearest) > 0.2, "which without the aimed half hardly one does"
    assert np.mean(np.abs(h) < 1.0) > 0.3


def test_the_tie_of_two_spheres_is_half_way_between_them():
    obstacles = capsules([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0]], [0.2, 0.4])
    tie = jax.jit(find_tie)(obstacles, jnp.array([0.3, 0.0, 0.0]), jnp.float32(0.5))
    np.testing.assert_allclose(tie.position, [1.4, 0.0, 0.0], atol=1e-3)
    np.testing.assert_allclose(tie.distance, 1.2, atol=1e-3)
    np.testing.assert_allclose(tie.across, [1.0, 0.0, 0.0], atol=1e-3)


@pytest.mark.parametrize("name", ["gap", "corridor", "boundary"])
def test_a_single_obstacle_leaves_states_finite(name):
    scene = scene_of(capsules([[1.0, 0.0, 0.0]], 0.3))
    motion = jax.jit(make_motion_sampler(name, SYSTEM))(scene, jax.random.key(0))
    assert isinstance(motion, Motion) and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(motion))


def test_bisection_finds_the_root_of_two_and_stays_at_the_end_where_nothing_turns():
    assert float(bisect(lambda x: x * x > 2.0, 2.0)) == pytest.approx(2.0**0.5, abs=2.0 / 2**14)
    assert float(bisect(lambda x: x < 0.0, 2.0)) == pytest.approx(2.0, abs=2.0 / 2**14)
