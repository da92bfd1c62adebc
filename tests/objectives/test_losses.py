"""Loss terms against closed forms on flights written by hand; each weight moves its own term alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.config import ObjectiveConfig
from drone_cbf.objectives.losses import COLLISION_SHARPNESS, final_steps, make_flight_loss
from drone_cbf.safety.records import Status
from tests.objectives.flights import flight
from tests.perception.worlds import PLAIN, capsules, scene_of, small_system

WEIGHTS = ("goal", "final", "final_speed", "speed", "effort", "smoothness", "clearance", "collision", "slack",
           "intervention", "fallback", "violation", "velocity", "unseen")  # fmt: skip
FILTER_TERMS = ("slack", "intervention", "fallback")
OFF = dict.fromkeys(WEIGHTS, 0.0)
CONSTANTS = ("clearance", "collision", "velocity")
"""Terms that hold constants for the gradient, the urgency of an approach and the velocity wanted: not its integral."""
STEPS = 30
SMOOTHING = 0.01
"""Distances and speeds are smoothed by this [m], [m/s]."""


def system_with(**weights):
    return small_system(physics=PLAIN, objective=ObjectiveConfig(**(OFF | weights)))


def eventful():
    """A flight on which every term has something to say."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-1.0, 1.0, (STEPS + 1, 3))
    status = np.where(np.arange(STEPS) < 5, Status.FALLBACK, Status.INTERVENED).astype(np.int32)
    flown = flight(
        system_with(), points, 6.0 * rng.normal(size=(STEPS + 1, 3)), rng.normal(size=(STEPS, 3)),
        nominal=rng.normal(size=(STEPS, 3)).astype(np.float32), slack=rng.uniform(size=STEPS).astype(np.float32),
        status=status,
    )  # fmt: skip
    return flown, scene_of(capsules([[0.0, 0.0, 0.0], [1.0, 0.5, 0.0]], 0.4))


@functools.cache
def loss_of(system, filtered):
    return jax.jit(make_flight_loss(system, filtered=filtered))


def terms_of(system, flown, scene, filtered=True):
    return {name: float(value) for name, value in loss_of(system, filtered)(flown, scene).items()}


@pytest.fixture(scope="module")
def everything():
    return terms_of(system_with(**dict.fromkeys(WEIGHTS, 1.0)), *eventful())


@pytest.fixture(scope="module")
def alone():
    """The terms with one weight of 2 and the others 0, by the name of that weight: one program for all of them."""
    losses = {name: make_flight_loss(system_with(**{name: 2.0}), filtered=True) for name in WEIGHTS}
    return jax.jit(lambda *flight: {name: loss(*flight) for name, loss in losses.items()})(*eventful())


def test_all_terms_have_a_weight_of_their_name(everything):
    assert set(everything) == set(WEIGHTS)
    assert all(value > 0.0 for value in everything.values())


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_weight_scales_its_own_term_and_zero_switches_the_others_off(everything, alone, name):
    assert name in alone[name]
    for term, value in alone[name].items():
        assert float(value) == pytest.approx(2.0 * everything[term] if term == name else 0.0, rel=1e-5)


def test_without_a_filter_there_are_no_terms_about_it():
    terms = terms_of(system_with(), *eventful(), filtered=False)
    weighted = {"violation", "velocity", "unseen"}  # built only with a weight
    assert set(terms) == set(WEIGHTS) - set(FILTER_TERMS) - weighted


def expected_velocity_term(flown, scene, cruise):
    """A flight shorter than two seconds has one window, from its first step to its last."""
    ahead = np.asarray(scene.goal - flown.states.position, np.float64)
    distance = np.sqrt((ahead**2).sum(-1) + SMOOTHING**2)[:, None]
    wanted = np.minimum(cruise, distance / 0.8) * ahead / distance
    speeds = np.concatenate([flown.states.velocity, flown.last.velocity[None]]).astype(np.float64)
    off = np.linalg.norm((speeds[1:] - wanted)[1:].mean(0))
    return off - 0.5 if off > 1.0 else 0.5 * off**2


def test_every_term_is_its_formula(everything):
    flown, scene = eventful()
    system = system_with()
    points = np.concatenate([flown.states.position, flown.last.position[None]]).astype(np.float64)[1:]
    speeds = np.concatenate([flown.states.velocity, flown.last.velocity[None]]).astype(np.float64)[1:]
    commands = np.asarray(flown.decisions.command, np.float64)
    nominal = np.asarray(flown.decisions.nominal, np.float64)
    distance = np.sqrt(np.sum((points - np.asarray(scene.goal)) ** 2, -1) + SMOOTHING**2)
    speed = np.sqrt(np.sum(speeds**2, -1) + SMOOTHING**2)
    last = final_steps(system, STEPS)
    changes = np.diff(np.concatenate([np.zeros((1, 3)), commands]), axis=0)
    expected = {
        "goal": distance.mean() / (1.0 + np.linalg.norm(scene.start - scene.goal)),
        "final": distance[-last:].mean(),
        "final_speed": speed[-last:].mean(),
        "speed": (np.maximum(speed - system.objective.max_speed, 0.0) ** 2).mean(),
        "effort": (commands**2).sum(-1).mean(),
        "smoothness": (changes**2).sum(-1).mean(),
        "slack": np.mean(flown.decisions.slack),
        "intervention": ((commands - nominal) ** 2).sum(-1).mean(),
        "fallback": (nominal[:5] ** 2).sum() / STEPS,
        "velocity": expected_velocity_term(flown, scene, system.objective.max_speed),
    }
    for name, value in expected.items():
        assert everything[name] == pytest.approx(float(value), rel=1e-4), name


@pytest.mark.parametrize("cruise", [None, 2.0])
def test_what_counts_is_the_mean_velocity_over_two_seconds_and_the_speed_that_is_told(cruise):
    system = small_system(physics=PLAIN, objective=ObjectiveConfig(velocity=3.0, max_speed=4.0))
    wanted, steps = cruise or 4.0, round(4.0 / system.physics.time_step)
    scene = scene_of(capsules([[0.0, 30.0, 0.0]], 1.0), goal=np.array([500.0, 0.0, 0.0]))
    scene = scene.replace(cruise=None if cruise is None else jnp.float32(cruise))
    points = np.zeros((steps + 1, 3))  # the goal stays straight ahead
    straight, weaving = np.zeros((2, steps + 1, 3))
    straight[:, 0] = weaving[:, 0] = wanted
    weaving[:, 1] = np.where(np.arange(steps + 1) % 2, 3.0, -3.0)
    cases = {"straight": (straight, 0.0), "weaving": (weaving, 0.0), "slower": (straight - [1.5, 0, 0], 1.0)}
    cases["at rest"] = (np.zeros((steps + 1, 3)), wanted - 0.5)
    for name, (velocities, expected) in cases.items():
        value = terms_of(system, flight(system, points, velocities), scene)["velocity"]
        assert value == pytest.approx(3.0 * expected, abs=3e-3), name


def test_flying_faster_than_told_is_penalised_also_below_the_fastest():
    system = system_with(speed=1.0, max_speed=6.0)
    flown = flight(system, np.zeros((STEPS + 1, 3)), np.tile([4.0, 0.0, 0.0], (STEPS + 1, 1)))
    scene = scene_of(capsules([[0.0, 30.0, 0.0]], 1.0))
    assert terms_of(system, flown, scene)["speed"] == 0.0
    assert terms_of(system, flown, scene.replace(cruise=jnp.float32(3.0)))["speed"] == pytest.approx(1.0, rel=1e-3)


def test_approaching_costs_by_nearness_and_closing_speed():
    system = system_with(clearance=1.0, collision=1.0)
    hull, reach = system.physics.drone_radius, system.objective.clearance_distance
    room, speed = 0.25 * reach, 2.0
    scene = scene_of(capsules([[hull + room + 1.0, 0.0, 0.0]], 1.0))
    terms = terms_of(system, flight(system, np.zeros((2, 3)), [[speed, 1.0, 0.0]] * 2), scene)
    assert terms["clearance"] == pytest.approx((0.2 + speed) * 0.75**2, rel=1e-4)
    inside = np.log1p(np.exp(-COLLISION_SHARPNESS * room)) / COLLISION_SHARPNESS
    assert terms["collision"] == pytest.approx((0.2 + speed) * inside, rel=1e-3)


@pytest.mark.parametrize("speed", [0.5, 3.0])
def test_the_violation_of_flying_on_towards_a_surface_is_the_closed_form(speed):
    """At constant speed c the braking barrier falls by c each second; it is large far away and asks nothing there."""
    system = system_with(violation=2.0)
    barrier, dt = system.barrier, system.physics.time_step
    points = np.stack([np.arange(STEPS + 1) * speed * dt, *np.zeros((2, STEPS + 1))], -1)
    scene = scene_of(capsules([[5.5, 0.0, 0.0]], 0.5))
    terms = terms_of(system, flight(system, points, np.tile([speed, 0.0, 0.0], (STEPS + 1, 1))), scene)
    room = system.physics.drone_radius + barrier.safety_margin
    braking = barrier.reaction_time * speed + speed**2 / (2.0 * barrier.braking)
    h = 5.0 - points[:-1, 0] - room - braking
    missed = np.maximum(speed - barrier.class_k_gain * h, 0.0)
    assert (missed.max() > 1.0) == (speed == 3.0)
    assert terms["violation"] == pytest.approx(2.0 * np.mean(missed**2), rel=2e-3, abs=1e-6)


@pytest.mark.parametrize(("horizon", "expected"), [(1, 1), (10, 10), (10_000, None)])
def test_the_last_second_is_at_most_the_whole_flight(horizon, expected):
    system = system_with()
    assert final_steps(system, horizon) == (expected or round(1.0 / system.physics.time_step))


def test_the_gradient_at_the_goal_at_rest_is_finite_and_zero_where_the_loss_is_smallest():
    system = system_with(**dict.fromkeys(WEIGHTS, 1.0))
    loss = make_flight_loss(system, filtered=True)
    goal = np.array([3.0, 0.0, 0.0])
    flown = flight(system, np.tile(goal, (STEPS + 1, 1)))
    scene = scene_of(capsules([[0.0, 30.0, 0.0]], 1.0), goal=goal)

    def total(position, velocity):
        moved = flown.replace(states=flown.states.replace(position=position, velocity=velocity))
        return sum(loss(moved, scene).values())

    by_position, by_velocity = jax.jit(jax.grad(total, argnums=(0, 1)))(flown.states.position, flown.states.velocity)
    np.testing.assert_allclose(by_position, 0.0, atol=1e-6)
    np.testing.assert_allclose(by_velocity, 0.0, atol=1e-6)


def test_the_gradient_is_that_of_central_differences():
    with jax.enable_x64(True):
        system = system_with(**dict.fromkeys(WEIGHTS, 1.0))
        loss = make_flight_loss(system, filtered=True)
        flown, scene = jax.tree.map(lambda x: x.astype(float) if x.dtype == jnp.float32 else x, eventful())

        @jax.jit
        def total(position, velocity):
            moved = flown.replace(states=flown.states.replace(position=position, velocity=velocity))
            terms = loss(moved, scene)
            return sum(value for name, value in terms.items() if name not in CONSTANTS)

        at = (flown.states.position, flown.states.velocity)
        slopes = jax.jit(jax.grad(total, argnums=(0, 1)))(*at)
        rng = np.random.default_rng(1)
        for _ in range(5):
            along = [1e-5 * rng.normal(size=x.shape) for x in at]
            ahead, behind = (total(*(x + sign * d for x, d in zip(at, along, strict=True))) for sign in (1, -1))
            predicted = 2.0 * sum(float(jnp.sum(s * d)) for s, d in zip(slopes, along, strict=True))
            # Truncation 1e-10 of the third derivative, rounding 1e-15 over a difference of 1e-4.
            assert ahead - behind == pytest.approx(predicted, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("frontier", [None, 2.0])
def test_flying_faster_than_one_can_stop_within_what_is_seen_costs_the_square_of_the_excess(frontier):
    """tau v + v^2 / (2 a) = seen - r_safe, solved in float64."""
    system = system_with(unseen=3.0)
    barrier = system.barrier
    seen = system.sensor.range if frontier is None else frontier
    room = seen - system.physics.drone_radius - barrier.safety_margin
    fastest = max(np.roots([0.5 / barrier.braking, barrier.reaction_time, -room]))
    for speed in (0.5 * fastest, fastest + 1.5):
        velocities = np.tile([0.0, speed, 0.0], (STEPS + 1, 1))
        flown = flight(system, np.zeros((STEPS + 1, 3)), velocities)
        flown = (
            flown if frontier is None else flown.replace(graphs=flown.graphs.replace(frontier=jnp.float32(frontier)))
        )
        term = terms_of(system, flown, scene_of(capsules([[50.0, 0.0, 0.0]], 0.4)))["unseen"]
        assert term == pytest.approx(3.0 * max(speed - fastest, 0.0) ** 2, rel=1e-3, abs=1e-6)
