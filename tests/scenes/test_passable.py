"""Scenes of every family have a way from start to goal."""

import pytest

from drone_cbf.scenes.families import FAMILIES
from tests.scenes.drawing import can_be_crossed, drawn, scene_at


@pytest.mark.parametrize("count", [1, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("family", FAMILIES)
def test_there_is_a_way_through(family, count):
    scenes = drawn(family)
    for index in range(count):
        assert can_be_crossed(scene_at(scenes, index)), f"scene {index}"


def test_without_a_way_through_none_is_found():
    """The search itself: behind a wall whose opening is closed lies no way."""
    scene = scene_at(drawn("windows"), 0)
    boxes = scene.obstacles.boxes
    closed = boxes.replace(half_size=boxes.half_size.at[0, 1].add(2.0))
    assert not can_be_crossed(scene.replace(obstacles=scene.obstacles.replace(boxes=closed)))
