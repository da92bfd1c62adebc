"""Clearance between samples, reaching and staying, and the violation, on flights written by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.objectives.clearance import approach, swept_clearances
from drone_cbf.objectives.losses import final_steps
from drone_cbf.objectives.metrics import (
    GOAL_SPEED,
    filter_figures,
    flight_report,
    make_flight_metrics,
    quick_figures,
)
from drone_cbf.perception.graphs import CLOSING_SHARPNESS
from drone_cbf.physics.drone import nominal_params
from drone_cbf.safety.records import SLACK_TOLERANCE, Status
from tests.objectives.flights import flight
from tests.perception.worlds import PLAIN, capsules, few_obstacles, scene_of, small_system

SYSTEM = small_system(physics=PLAIN, scene=few_obstacles(2))
DT = SYSTEM.physics.time_step
HULL = SYSTEM.physics.drone_radius
FAR_AWAY = capsules([[0.0, 30.0, 0.0], [0.0, 40.0, 0.0]], 1.0)
GOAL = np.array([1.0, 0.0, 0.0], np.float32)
GOAL_RADIUS = SYSTEM.objective.goal_radius
LAST = final_steps(SYSTEM, 10_000)
STEPS = LAST + 14
METRICS = jax.jit(make_flight_metrics(SYSTEM))
swept, approached, quickly = (
    jax.jit(function, static_argnums=2) for function in (swept_clearances, approach, quick_figures)
)
ROUNDING = 1e-5


def test_a_fly_by_between_two_samples_is_seen():
    """Past a ball at 0.4 m in one step of 2 m: both samples are more than a metre away."""
    ball = capsules([[0.0, 0.0, 0.0]], 0.3)
    passing = flight(SYSTEM, [[-1.0, 0.4, 0.0], [1.0, 0.4, 0.0], [2.0, 0.4, 0.0]])
    clearance = swept(passing, scene_of(ball), SYSTEM.physics)
    expected = [0.4 - 0.3 - HULL, np.hypot(1.0, 0.4) - 0.3 - HULL]
    np.testing.assert_allclose(clearance[:, 0], expected, atol=ROUNDING)
    sampled = approached(passing, scene_of(ball), SYSTEM.physics).clearance
    np.testing.assert_allclose(sampled[0, 0], np.hypot(1.0, 0.4) - 0.3 - HULL, atol=ROUNDING)


def test_a_ball_that_flies_past_a_resting_drone_is_seen():
    """It crosses from -1 m to 1 m during the third step."""
    speed = 2.0 / DT
    ball = capsules([[-1.0 - 2.0 * 2.0, 0.4, 0.0]], 0.3, velocity=[speed, 0.0, 0.0])
    clearance = swept(flight(SYSTEM, np.zeros((5, 3))), scene_of(ball), SYSTEM.physics)[:, 0]
    np.testing.assert_allclose(clearance[2], 0.4 - 0.3 - HULL, atol=1e-4)
    assert np.all(np.asarray(clearance)[[0, 1, 3]] > 0.5)


def test_the_approach_knows_the_closing_speed():
    ball = capsules([[2.0, 0.0, 0.0]], 0.5, velocity=[-1.0, 0.0, 0.0])
    seen = approached(flight(SYSTEM, np.zeros((2, 3)), [[3.0, 4.0, 0.0]] * 2), scene_of(ball), SYSTEM.physics)
    assert seen.clearance[0, 0] == pytest.approx(1.5 - HULL, abs=ROUNDING)
    assert seen.speed[0, 0] == pytest.approx(4.0, abs=ROUNDING)


def arrival(case):
    """Straight to the goal within ten steps, and what then happens, as ``case`` says."""
    points, speeds = np.tile(GOAL, (STEPS + 1, 1)), np.zeros((STEPS + 1, 3), np.float32)
    points[:10] = np.linspace([0.0, 0.0, 0.0], GOAL, 10, endpoint=False)
    obstacles = FAR_AWAY
    if case == "too far":
        points[10:, 1] = 1.05 * GOAL_RADIUS
    if case == "too fast":
        speeds[10:, 2] = 1.05 * GOAL_SPEED
    if case == "leaves early in the last second":
        points[STEPS - LAST] += [0.0, 2.0 * GOAL_RADIUS, 0.0]
    if case == "leaves at the end":
        points[-1] += [0.0, 2.0 * GOAL_RADIUS, 0.0]
    if case == "away before the last second":
        points[11] += [0.0, 2.0 * GOAL_RADIUS, 0.0]
    if case == "touches on the way":
        obstacles = capsules([[0.55, HULL + 0.09, 0.0], [0.0, 30.0, 0.0]], 0.1)
    if case == "almost touches":
        obstacles = capsules([[0.55, HULL + 0.11, 0.0], [0.0, 30.0, 0.0]], 0.1)
    return flight(SYSTEM, points, speeds), scene_of(obstacles, goal=GOAL)


@pytest.mark.parametrize(
    ("case", "success", "collision"),
    [
        ("arrives and stays", True, False),
        ("almost touches", True, False),
        ("away before the last second", True, False),
        ("too far", False, False),
        ("too fast", False, False),
        ("leaves early in the last second", False, False),
        ("leaves at the end", False, False),
        ("touches on the way", False, True),
    ],
)
def test_success_is_reaching_and_staying_without_touching_anything(case, success, collision):
    flown, scene = arrival(case)
    figures = METRICS(flown, scene)
    assert (bool(figures.success), bool(figures.collision)) == (success, collision)
    batch = jax.tree.map(lambda x: x[None], (flown, scene))
    quick = quickly(*batch, SYSTEM)
    assert (quick["train/success_rate"], quick["train/collision_rate"]) == (success, collision)


@pytest.mark.parametrize(
    ("case", "steps"), [("arrives and stays", None), ("away before the last second", 12), ("leaves at the end", np.nan)]
)
def test_time_to_goal_is_when_the_drone_is_there_to_stay(case, steps):
    """Ten steps of 0.1 m: from the eighth on it is within 0.2 m (the ninth where 0.2 is not quite reached)."""
    flown, scene = arrival(case)
    figures = METRICS(flown, scene)
    if case == "arrives and stays":
        distance = np.linalg.norm(np.asarray(flown.states.position) - GOAL, axis=-1)
        steps = int(np.argmax(distance < GOAL_RADIUS))
        assert steps in (8, 9)
        assert figures.mean_speed == pytest.approx(0.1 / DT, rel=1e-4)
    np.testing.assert_allclose(figures.time_to_goal, steps * DT, rtol=1e-5)


def test_distance_and_speed_at_the_end_are_those_of_the_last_second():
    flown, scene = arrival("leaves early in the last second")
    figures = METRICS(flown, scene)
    assert figures.final_distance == pytest.approx(2.0 * GOAL_RADIUS, rel=1e-5)
    assert figures.final_speed == 0.0


def test_effort_is_the_integral_of_the_squared_command():
    commands = np.random.default_rng(0).normal(size=(STEPS, 3))
    flown = flight(SYSTEM, np.zeros((STEPS + 1, 3)), commands=commands)
    assert METRICS(flown, scene_of(FAR_AWAY)).effort == pytest.approx(DT * np.sum(commands**2), rel=1e-5)


def test_a_safe_command_violates_nothing():
    still = flight(SYSTEM, np.zeros((STEPS + 1, 3)))
    figures = METRICS(still, scene_of(capsules([[3.0, 0.0, 0.0], [0.0, 9.0, 0.0]], 1.0)))
    assert np.all(np.asarray(figures.violation) == 0.0)
    assert np.all(np.asarray(figures.true_barrier) > 0.0)


@pytest.mark.parametrize("speed", [2.0, 5.0])
@pytest.mark.parametrize("push", [-3.0, 0.0, 4.0])
def test_the_violation_of_charging_a_wall_is_the_closed_form(speed, push):
    """Head-on there is no curvature: dh/dt = -speed - (tau + c / a) c' push, with c the smooth closing speed."""
    distance, barrier = 1.5, SYSTEM.barrier
    points = np.zeros((STEPS + 1, 3))
    flown = flight(SYSTEM, points, np.tile([speed, 0, 0], (STEPS + 1, 1)), np.tile([push, 0, 0], (STEPS, 1)))
    figures = METRICS(flown, scene_of(capsules([[distance + 5.0, 0.0, 0.0], [0.0, 30.0, 0.0]], 5.0)))
    closing = np.logaddexp(0.0, CLOSING_SHARPNESS * speed) / CLOSING_SHARPNESS
    slope = 1.0 / (1.0 + np.exp(-CLOSING_SHARPNESS * speed))
    h = distance - HULL - barrier.safety_margin - barrier.reaction_time * closing - closing**2 / (2 * barrier.braking)
    rate = -speed - (barrier.reaction_time + closing / barrier.braking) * slope * push
    expected = max(0.0, -(rate + barrier.class_k_gain * h))
    np.testing.assert_allclose(figures.true_barrier, h, atol=1e-4)
    np.testing.assert_allclose(figures.violation, expected, atol=1e-3)


def test_the_violation_is_that_of_the_drone_that_flies():
    """Twice the mass makes half of a command, so it charges the wall as the light one does with half the push."""
    scene = scene_of(capsules([[6.5, 0.0, 0.0], [0.0, 30.0, 0.0]], 5.0))
    heavy = scene.replace(drone=nominal_params(SYSTEM.physics).replace(gain=jnp.float32(0.5)))
    points, speed = np.zeros((STEPS + 1, 3)), np.tile([5.0, 0, 0], (STEPS + 1, 1))
    pushed = {push: flight(SYSTEM, points, speed, np.tile([push, 0, 0], (STEPS, 1))) for push in (2.0, 4.0)}
    expected, other = METRICS(pushed[2.0], scene).violation, METRICS(pushed[4.0], scene).violation
    np.testing.assert_allclose(METRICS(pushed[4.0], heavy).violation, expected, atol=1e-3)
    assert np.all(other - expected > 0.5), "and not as the configured one"


def test_the_violation_is_that_in_the_true_wind():
    """Its drag is an acceleration beside the command's, as long as the delay, which is none here."""
    drag, speed, wind, push = 0.5, 5.0, 2.0, 1.0
    windy = small_system(physics=PLAIN.model_copy(update={"linear_drag": drag}), scene=SYSTEM.scene)
    scene = scene_of(capsules([[6.5, 0.0, 0.0], [0.0, 30.0, 0.0]], 5.0))
    points, speeds = np.zeros((STEPS + 1, 3)), np.tile([speed, 0, 0], (STEPS + 1, 1))
    blown = flight(windy, points, speeds, np.tile([push, 0, 0], (STEPS, 1)))
    blown = blown.replace(wind=jnp.tile(jnp.array([wind, 0, 0]), (STEPS, 1)))
    pushed = flight(SYSTEM, points, speeds, np.tile([push - drag * (speed - wind), 0, 0], (STEPS, 1)))
    found = jax.jit(make_flight_metrics(windy))(blown, scene).violation
    np.testing.assert_allclose(found, METRICS(pushed, scene).violation, atol=1e-3)
    assert np.all(found > 0.5)


def test_the_violation_is_that_where_the_command_acts():
    """At constant speed a drone of delay and lag acts that much later, and so farther on."""
    speed, push = 5.0, 4.0
    late = PLAIN.model_copy(update={"delay": 0.05, "lag_time": 0.08})
    scene = scene_of(capsules([[6.5, 0.0, 0.0], [0.0, 30.0, 0.0]], 5.0))
    speeds, pushed = np.tile([speed, 0, 0], (STEPS + 1, 1)), np.tile([push, 0, 0], (STEPS, 1))
    system = small_system(physics=late, scene=SYSTEM.scene)
    figures = jax.jit(make_flight_metrics(system))(flight(system, np.zeros((STEPS + 1, 3)), speeds, pushed), scene)
    ahead = np.tile([speed * (late.delay + late.lag_time), 0, 0], (STEPS + 1, 1))
    expected = METRICS(flight(SYSTEM, ahead, speeds, pushed), scene)
    np.testing.assert_allclose(figures.violation, expected.violation, atol=1e-3)
    np.testing.assert_allclose(figures.true_barrier, expected.true_barrier, atol=1e-4)


def counted():
    """Ten steps: 1 passes, 2 intervene, 3 are relaxed; of the rest, each carries another status without certificate."""
    status = np.repeat(np.array(Status, np.int32), [1, 2, 3, 1, 1, 1, 1])
    slack = np.where(status == Status.RELAXED, 0.5, 0.5 * SLACK_TOLERANCE).astype(np.float32)
    return flight(SYSTEM, np.zeros((11, 3)), status=status, slack=slack)


def test_the_filters_work_is_counted_by_status():
    expected = {"relax_rate": 0.3, "intervention_rate": 0.5, "fallback_rate": 0.2, "no_authority_rate": 0.1}
    expected["unavoidable_rate"] = 0.1
    flown = counted()
    figures = jax.tree.map(lambda x: x[None], METRICS(flown, scene_of(FAR_AWAY)))
    report = flight_report(figures)
    training = filter_figures(jax.tree.map(lambda x: x[None], flown))
    for name, value in expected.items():
        assert report[name] == pytest.approx(value), name
        assert training[f"filter/{name}"] == pytest.approx(value), name
    mean = 0.3 * 0.5 + 0.7 * 0.5 * SLACK_TOLERANCE
    assert report["relax_mean"] == pytest.approx(mean) and training["filter/relax_mean"] == pytest.approx(mean)


def test_a_report_takes_means_tails_and_worst_cases():
    cases = ("arrives and stays", "touches on the way", "leaves at the end", "too far")
    figures = [METRICS(*arrival(case)) for case in cases]
    report = flight_report(jax.tree.map(lambda *leaves: jnp.stack(leaves), *figures))
    assert report["success_rate"] == 0.25 and report["collision_rate"] == 0.25
    assert report["smallest_clearance"] == pytest.approx(float(figures[1].smallest_clearance))
    assert report["final_distance_max"] == pytest.approx(2.0 * GOAL_RADIUS, rel=1e-5)
    reached = [float(f.time_to_goal) for f in figures if np.isfinite(f.time_to_goal)]
    assert len(reached) == 2 and report["time_to_goal"] == pytest.approx(np.mean(reached))


def test_time_to_goal_of_flights_that_never_arrive_is_not_a_number():
    figures = jax.tree.map(lambda x: x[None], METRICS(*arrival("too far")))
    assert np.isnan(flight_report(figures)["time_to_goal"])
