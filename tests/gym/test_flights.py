"""Episodes: the physics and sensors of the rollout, rewards, and how an episode ends."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from drone_cbf.controller import ControllerParams, make_unfiltered_pilot
from drone_cbf.gym.flights import ARRIVAL, COLLISION, EFFORT, Flights, make_flights
from drone_cbf.rollout import make_rereading, make_rollout
from drone_cbf.scenes.families import make_scene_sampler
from tests.perception.worlds import (
    PLAIN,
    few_obstacles,
    lidar_system,
    random_barrier,
    random_policy,
    scene_of,
    wall_with_window,
)

SYSTEM = lidar_system(scene=few_obstacles(4))
STEPS, NOISE = 12, 0.03
KEY = jax.random.key(8)
ROUNDING = 1e-5
"""Of positions of a few metres: the same operations, fused otherwise."""


def test_the_commands_of_a_rollout_give_its_states_and_its_readings() -> None:
    scene = jax.jit(make_scene_sampler("random_cloud", "random", SYSTEM.scene))(jax.random.key(2))
    scene = scene.replace(wind=jnp.array([1.0, -0.5, 0.2]), gust=jnp.asarray(np.full(3, 0.4, np.float32)))
    params = ControllerParams(
        policy=random_policy(SYSTEM), barrier=random_barrier(SYSTEM), margin=jnp.float32(0.0), blend=jnp.float32(0.0)
    )
    rollout = jax.jit(make_rollout(SYSTEM, make_unfiltered_pilot(SYSTEM), STEPS))
    flown = rollout(params, scene, jnp.float32(NOISE), KEY)
    read = jax.device_get(jax.jit(make_rereading(SYSTEM))(flown.states, scene, jnp.float32(NOISE), KEY))
    flown = jax.device_get(flown)
    flights = make_flights(SYSTEM, "random_cloud", "random", STEPS, NOISE)
    episode, reading = jax.jit(flights.begin_in)(scene, KEY, KEY)
    act = jax.jit(flights.act)
    for index in range(STEPS):
        np.testing.assert_allclose(episode.drone.position, flown.states.position[index], atol=ROUNDING)
        np.testing.assert_allclose(episode.drone.velocity, flown.states.velocity[index], atol=ROUNDING)
        np.testing.assert_array_equal(reading.hit, read.hit[index])
        np.testing.assert_allclose(
            np.asarray(reading.points)[reading.hit], read.points[index][read.hit[index]], atol=1e-3
        )
        np.testing.assert_allclose(reading.own.velocity, read.own.velocity[index], atol=ROUNDING)
        episode, reading, result = act(episode, flown.decisions.command[index])
    np.testing.assert_allclose(episode.drone.position, flown.last.position, atol=ROUNDING)
    assert bool(result.late) and np.linalg.norm(flown.decisions.command, axis=-1).max() > 0.5


@functools.cache
def plain_flights() -> Flights:
    """A command acts at once and alone, no wind: what happens is known in closed form. Compiled."""
    flights = make_flights(lidar_system(rays=(4, 2), physics=PLAIN), "fixed_ring", "trained", 40, 0.0)
    return dataclasses.replace(flights, begin_in=jax.jit(flights.begin_in), act=jax.jit(flights.act))


def test_flying_into_a_wall_ends_in_a_collision_after_the_time_of_a_free_fall() -> None:
    push, dt, radius, face = 4.0, PLAIN.time_step, PLAIN.drone_radius, 2.9
    flights = plain_flights()
    scene = scene_of(wall_with_window(middle=(0.0, 3.0)), goal=(10.0, 0.0, 0.0))
    episode, _ = flights.begin_in(scene, KEY, KEY)
    act, rewards, steps = flights.act, [], 0
    while True:
        episode, _, result = act(episode, jnp.array([push, 0.0, 0.0]))
        rewards.append(float(result.reward))
        steps += 1
        if result.collided:
            break
    assert steps == int(np.ceil(np.sqrt(2.0 * (face - radius) / push) / dt))
    way = 0.5 * push * (steps * dt) ** 2
    # Without a lag the model has one of 1e-4 s, by which everything is late.
    np.testing.assert_allclose(episode.drone.position, [way, 0.0, 0.0], atol=2e-4 * push * steps * dt)
    assert np.isclose(sum(rewards), way - EFFORT * push**2 * steps * dt - COLLISION, atol=2e-4 * push * steps * dt)
    assert not result.arrived and result.clearance < 0.0


def test_being_at_the_goal_slowly_is_arrival_and_fast_is_not() -> None:
    flights = plain_flights()
    act, begin_in = flights.act, flights.begin_in
    scene = scene_of(wall_with_window(), goal=(0.1, 0.0, 0.0))
    hovering, _ = begin_in(scene, KEY, KEY)
    _, _, rested = act(hovering, jnp.zeros(3))
    assert rested.arrived and np.isclose(rested.reward, ARRIVAL) and np.isclose(rested.distance, 0.1)
    _, _, passing = act(begin_in(scene.replace(start_velocity=jnp.array([1.0, 0, 0])), KEY, KEY)[0], jnp.zeros(3))
    assert not passing.arrived and np.isclose(passing.reward, 0.05, atol=1e-6)


def test_a_command_beyond_the_limits_counts_and_acts_as_the_limit() -> None:
    flights = plain_flights()
    act = flights.act
    episode, _ = flights.begin_in(scene_of(wall_with_window(), goal=(50.0, 0.0, 0.0)), KEY, KEY)
    limit = PLAIN.max_acceleration[0]
    beyond, within = (act(episode, jnp.array([size, 0.0, 0.0])) for size in (10.0 * limit, limit))
    np.testing.assert_array_equal(beyond[0].drone.velocity, within[0].drone.velocity)
    assert float(beyond[2].reward) == float(within[2].reward)
