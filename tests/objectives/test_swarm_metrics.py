"""GCBF+'s figures and the reasons for not arriving, on flights written by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.config import ObjectiveConfig
from drone_cbf.objectives.clearance import approach
from drone_cbf.objectives.swarm_metrics import SMALLER_IS_WORSE, swarm_metrics, swarm_report
from drone_cbf.rollout import Encounters
from tests.objectives.flights import flight
from tests.perception.worlds import PLAIN, capsules, few_obstacles, scene_of, small_system

SYSTEM = small_system(
    physics=PLAIN.model_copy(update={"drone_radius": 0.05}),
    scene=few_obstacles(2),
    objective=ObjectiveConfig(goal_radius=0.1, max_speed=0.5),
)
GOAL, STEPS = (1.0, 0.0, 0.0), 60  # 3 s
FAR_AWAY = capsules([[0.0, 30.0, 0.0], [0.0, 40.0, 0.0]], 1.0)
ROUNDING = 1e-5


def encounters(gap=1.0, other=(0.0, 5.0, 0.0), within=True):
    """Another drone at rest at ``other`` [m]; ``gap`` [m]: the least during the steps."""
    place = np.broadcast_to(np.asarray(other, np.float32), (STEPS, 1, 3))
    return Encounters(
        gap=jnp.full(STEPS, gap, jnp.float32),
        position=jnp.asarray(place),
        velocity=jnp.zeros((STEPS, 1, 3)),
        within=jnp.full((STEPS, 1), within),
    )


def measured(x, others=None, collided=False):
    """Of a flight along the x axis."""
    points = np.stack([x, np.zeros(STEPS + 1), np.zeros(STEPS + 1)], -1)
    flown = flight(SYSTEM, points).replace(others=encounters() if others is None else others)
    return swarm_metrics(flown, scene_of(FAR_AWAY, goal=GOAL), SYSTEM, jnp.bool_(collided))


STAYS = np.minimum(np.linspace(0.0, 2.0, STEPS + 1), 1.0)
PASSES = np.linspace(0.0, 2.0, STEPS + 1)
STANDS = np.minimum(np.linspace(0.0, 2.0, STEPS + 1), 0.5)
COMES = np.linspace(0.0, 0.6, STEPS + 1)


@pytest.mark.parametrize(
    ("x", "reached", "blocked", "late"),
    [
        (STAYS, True, False, False),
        (PASSES, True, True, False),
        (STANDS, False, True, False),
        (COMES, False, False, True),
    ],
    ids=["stays", "passes by and leaves", "stands", "comes"],
)
def test_reaching_at_any_time_counts_for_gcbf_and_at_the_end_for_us(x, reached, blocked, late):
    found = measured(x)
    assert (bool(found.reached), bool(found.blocked), bool(found.late)) == (reached, blocked, late)


def test_who_collided_is_neither_blocked_nor_late():
    assert not bool(measured(STANDS, collided=True).blocked) and not bool(measured(COMES, collided=True).late)


@pytest.mark.parametrize(("aside", "safe"), [(0.11, True), (0.09, False)])
def test_safe_means_two_radii_from_others_at_samples(aside, safe):
    found = measured(STAYS, encounters(gap=-0.01, other=(1.0, aside, 0.0)))
    assert bool(found.safe) == safe
    assert float(found.separation) == pytest.approx(-0.01)  # also between samples


def test_others_out_of_range_are_no_danger():
    assert bool(measured(STAYS, encounters(other=(1.0, 0.0, 0.0), within=False)).safe)


def test_a_drone_alone_has_no_such_metrics():
    flown = flight(SYSTEM, np.zeros((3, 3)))
    assert swarm_metrics(flown, scene_of(FAR_AWAY), SYSTEM, jnp.bool_(False)) is None and swarm_report(None) == {}


def test_rates_are_over_all_flights():
    some = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(measured(x) for x in (STAYS, PASSES, STANDS, COMES)))
    report = swarm_report(some)
    assert report["gcbf_success_rate"] == report["gcbf_reach_rate"] == 0.5 and report["gcbf_safe_rate"] == 1.0
    assert set(report) >= SMALLER_IS_WORSE
    assert report["blocked_rate"] == 0.5 and report["late_rate"] == 0.25


def test_the_approach_of_others_has_the_gradient_of_the_own_flight():
    flown = flight(SYSTEM, np.zeros((STEPS + 1, 3)), np.full((STEPS + 1, 3), [0.3, 0.0, 0.0]))
    flown = flown.replace(others=encounters(other=(0.4, 0.3, 0.0)))
    scene = scene_of(FAR_AWAY, goal=GOAL)

    def gap(position):
        moved = flown.replace(states=flown.states.replace(position=position))
        return approach(moved, scene, SYSTEM.physics).clearance[0, -1]

    seen = approach(flown, scene, SYSTEM.physics)
    assert float(seen.clearance[0, -1]) == pytest.approx(0.5 - 2.0 * SYSTEM.physics.drone_radius, abs=ROUNDING)
    assert float(seen.speed[0, -1]) == pytest.approx(0.3 * 0.8, abs=ROUNDING)
    np.testing.assert_allclose(jax.grad(gap)(flown.states.position)[0], [-0.8, -0.6, 0.0], atol=ROUNDING)
