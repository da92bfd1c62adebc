"""Flights as records: what a model of a drone has beyond a point mass is kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from drone_cbf.api.flight_records import flights_of
from drone_cbf.config import PhysicsConfig
from drone_cbf.controller import ControllerParams, make_unfiltered_pilot
from drone_cbf.flights import make_flyer
from drone_cbf.scenes.families import make_scene_sampler
from tests.perception.worlds import few_obstacles, random_policy, small_system

GRAVITY = [0.0, 0.0, 9.81]


@pytest.mark.parametrize(
    "model", ["point_mass", *(pytest.param(name, marks=pytest.mark.slow) for name in ("attitude", "quadrotor"))]
)
def test_a_flight_keeps_the_attitude_of_its_model(model):
    system = small_system(physics=PhysicsConfig(model=model, belief="configured"), scene=few_obstacles(2))
    fly = make_flyer(system, make_unfiltered_pilot(system), 12)
    params = ControllerParams(
        policy=random_policy(system), barrier=None, margin=jnp.float32(0.0), blend=jnp.float32(1.0)
    )
    keys = jax.random.split(jax.random.key(0), 2)
    scenes = jax.vmap(make_scene_sampler("random_cloud", "random", system.scene))(keys)
    flown = fly(params, scenes, jnp.zeros(2), keys)
    for row, flight in enumerate(flights_of(scenes, flown, system, "flight", 0.0, filtered=False)):
        if model == "point_mass":
            assert flight.attitude is None and flight.rates is None
            continue
        thrust = np.asarray(flown.trajectories.states.thrust[row]) + GRAVITY  # along the upward axis of the body
        up = Rotation.from_quat(flight.attitude[:-1], scalar_first=True).apply([0.0, 0.0, 1.0])
        np.testing.assert_allclose(up, thrust / np.linalg.norm(thrust, axis=-1, keepdims=True), atol=1e-3)
        assert flight.rates.shape == (13, 3) and np.abs(flight.rates[-1]).max() > 0.01
