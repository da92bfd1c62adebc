"""Spots lie on the surfaces of obstacles of every shape, and what is beside them is where flights are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.barrier.spots import SPOT, random_spot
from drone_cbf.draws import uniform_draws
from drone_cbf.physics.obstacles import surface_distances
from drone_cbf.scenes.families import FAMILIES
from tests.scenes.drawing import QUICK, drawn

SPOTS = 100
ROUNDING = 1e-4
"""[m]: float32 at coordinates of up to 30 m."""


@pytest.mark.parametrize("family", FAMILIES)
def test_a_spot_lies_on_the_surface_of_an_obstacle_and_its_normal_leads_away_from_it(family):
    scenes = drawn(family, count=SPOTS)

    def one(scene, key):
        spot = random_spot(scene, uniform_draws(key, **SPOT))
        at, off = (surface_distances(scene.obstacles, spot.at(jnp.float32(d))) for d in (0.0, 0.01))
        return at, off, spot.at(jnp.float32(0.0)) - scene.start

    at, off, place = jax.jit(jax.vmap(one), compiler_options=QUICK)(scenes, jax.random.split(jax.random.key(3), SPOTS))
    on = (np.abs(at) < ROUNDING) & (np.abs(off - 0.01) < ROUNDING)  # pieces of a wall touch: of one of them
    assert np.all(on.any(axis=1))
    assert np.sum(on.any(axis=0)) > min(on.shape[1] // 2, 3), "every obstacle is as likely"
    assert np.abs(np.asarray(place)[:, 2]).max() < 8.0, "no spot is out of reach above or below"
