"""``scattered``: the obstacles of DiffPhysDrone over the area that it stretches them to."""

import jax
import numpy as np
import pytest

from drone_cbf.config import SceneConfig
from drone_cbf.scenes import mixed
from drone_cbf.scenes.families import make_scene_sampler
from tests.scenes.drawing import CONFIG, QUICK, drawn

THINGS = 30 + 30 + 30 + 10
"""Balls, boxes, pillars and ground boxes."""


@pytest.mark.parametrize(("speed", "along", "across"), [(3.0, 20.0, 50.4), (6.0, 44.0, 32.7)])
def test_the_obstacles_fill_the_area_of_the_published_scenes_at_this_speed(speed, along, across):
    config = SceneConfig(scattered_speed=speed)
    sampler = jax.jit(jax.vmap(make_scene_sampler("scattered", "trained", config)), compiler_options=QUICK)
    scenes = sampler(jax.random.split(jax.random.key(0), 60))
    place = np.asarray(scenes.obstacles.boxes.centre)[..., :2].reshape(-1, 2)
    np.testing.assert_allclose(np.ptp(place, axis=0), [along, across], rtol=0.02)
    np.testing.assert_allclose(
        place.mean(axis=0), [1.0 + 0.5 * along, 0.0], atol=4.0 * across / np.sqrt(12 * len(place))
    )
    assert scenes.obstacles.capsules.centre.shape[1] + scenes.obstacles.boxes.centre.shape[1] == THINGS
    np.testing.assert_allclose(np.asarray(scenes.goal)[:, 0], along + 2.0)


def test_mixed_packs_the_same_obstacles_three_and_a_half_times_as_densely():
    there, here = (np.asarray(drawn(name, "trained").obstacles.boxes.centre) for name in ("scattered", "mixed"))
    at_rest = here[:, CONFIG.mixed_moving : CONFIG.mixed_boxes]
    areas = [np.prod(np.ptp(place[..., :2].reshape(-1, 2), axis=0)) for place in (there, at_rest)]
    assert areas[0] / areas[1] == pytest.approx(3.5, rel=0.05)


def test_nothing_moves_and_starts_lie_before_the_obstacles():
    scenes = drawn("scattered", "trained")
    for solids in (scenes.obstacles.capsules, scenes.obstacles.boxes, scenes.obstacles.cylinders):
        assert not np.any(np.asarray(solids.velocity))
        assert np.asarray(solids.centre)[..., 0].min() >= mixed.EDGE
    assert not np.any(np.asarray(scenes.start)[:, 0])
