"""Scenes described by hand: every shape stands where it was put, and what cannot be is refused in one line."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import drone_cbf
from drone_cbf.errors import ConfigError
from drone_cbf.physics.obstacles import surface_distances
from tests.perception.worlds import few_obstacles, small_system

SYSTEM = small_system(scene=few_obstacles(2))
POINTS = {"start": (0.0, 0.0, 1.0), "goal": (4.0, 0.0, 1.0)}


def distances(scene, *point) -> list[float]:
    found = jax.jit(surface_distances)(scene.obstacles, jnp.array(point))
    return np.round(np.asarray(found), 5).tolist()


def test_every_shape_stands_where_it_was_put():
    scene = drone_cbf.make_scene(
        SYSTEM,
        **POINTS,
        centre=[[0.0, 0.0, 3.0]],
        radius=0.5,
        boxes={"centre": [[3.0, 0.0, 0.0], [0.0, 6.0, 0.0]], "half_size": (1.0, 2.0, 0.5), "yaw": [0.0, np.pi / 2]},
        cylinders={"centre": [[0.0, 0.0, -4.0]], "radius": 0.5, "half_length": 2.0, "heading": np.pi / 2},
        ground=-6.0,
    )
    assert distances(scene, 0.0, 0.0, 0.0) == [2.5, 1000.0, 2.0, 5.0, 3.5, 6.0]
    assert distances(scene, 0.0, 3.0, -4.0)[4:] == [1.0, 2.0], "beyond the end of the cylinder, which lies along y"


def test_shapes_move_and_turn_as_told_and_capsules_may_be_left_out():
    turned = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    boxes = {"centre": [[0.0, 0.0, 0.0]], "half_size": (1.0, 2.0, 3.0), "rotation": turned, "velocity": (1.0, 0.0, 0.0)}
    scene = drone_cbf.make_scene(SYSTEM, **POINTS, boxes=boxes)
    assert scene.obstacles.active.tolist() == [False, False, True]
    assert distances(scene, 5.0, 0.0, 0.0)[-1] == 2.0, "its longest axis points along x"
    assert distances(scene.replace(obstacles=scene.obstacles.at(1.0)), 5.0, 0.0, 0.0)[-1] == 1.0
    assert distances(scene, 0.0, 5.0, 0.0)[-1] == 4.0 and distances(scene, 0.0, 0.0, 5.0)[-1] == 3.0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"centre": [[0.0, 0.0, 0.0]]}, "radius is missing"),
        ({"boxes": {"centre": [[0.0, 0.0, 0.0]]}}, "boxes.half_size is missing"),
        ({"boxes": {"centre": [[0.0, 0.0, 0.0]], "half_size": 1.0, "roll": 1.0}}, "boxes.roll is unknown; boxes takes"),
        ({"boxes": {"centre": [[0.0, 0.0, 0.0]], "half_size": 0.0}}, "boxes.half_size = 0 must be > 0"),
        ({"boxes": {"centre": [[0.0, 0.0]], "half_size": 1.0}}, r"boxes.centre has shape \(1, 2\), expected \(1, 3\)"),
        (
            {"boxes": {"centre": [[0.0, 0.0, 0.0]], "half_size": 1.0, "rotation": np.ones((3, 3))}},
            "boxes.rotation holds",
        ),
        (
            {"boxes": {"centre": [[0.0, 0.0, 0.0]], "half_size": 1.0, "rotation": np.eye(3), "yaw": 0.0}},
            "boxes has both yaw and",
        ),
        (
            {"cylinders": {"centre": [[0.0, 0.0, 0.0]], "radius": -1.0, "half_length": 1.0}},
            "cylinders.radius = -1 must",
        ),
        ({"cylinders": {"centre": [[0.0, 0.0, 0.0]], "radius": 1.0}}, "cylinders.half_length is missing"),
        ({"ground": np.nan}, "ground holds a value that is not finite"),
    ],
)
def test_what_cannot_be_is_refused_with_its_name_and_what_to_do(wrong, message):
    with pytest.raises(ConfigError, match=f"make_scene: {message}"):
        drone_cbf.make_scene(SYSTEM, **POINTS, **wrong)
