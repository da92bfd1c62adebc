"""Worlds are what they are said to be."""

from __future__ import annotations

import numpy as np
import pytest

from tests.simulator.solids import FAR
from tests.simulator.worlds import CLEAR, FAMILIES, windows

COUNT = 200


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_start_and_goal_are_clear_and_headings_go_all_around(family: str) -> None:
    worlds = FAMILIES[family](COUNT, np.random.default_rng(0))
    ends = np.stack([worlds.start, worlds.goal], axis=1)[:, None]
    assert all(kind.distances(ends).min(initial=np.inf) > CLEAR for kind in worlds.solids)
    course = worlds.goal - worlds.start
    heading = np.arctan2(course[:, 1], course[:, 0])
    assert np.histogram(heading, 8, (-np.pi, np.pi))[0].min() > 0
    np.testing.assert_allclose(worlds.route[:, -1], worlds.goal, atol=1e-12)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_straight_flight_is_usually_blocked(family: str) -> None:
    worlds = FAMILIES[family](COUNT, np.random.default_rng(1))
    way = np.linspace(0.0, 1.0, 400)[:, None]
    track = worlds.start[:, None] + way * (worlds.goal - worlds.start)[:, None]
    nearest = np.minimum(*(kind.distances(track[:, None]).min((1, 2), initial=np.inf) for kind in worlds.solids))
    assert 0.6 < (nearest < 0.12).mean() <= 1.0


def test_windows_are_open_in_their_middle_and_closed_around_it() -> None:
    worlds = windows(COUNT, np.random.default_rng(2))
    middle = 0.5 * (worlds.route[:, 0:6:2] + worlds.route[:, 1:6:2])
    walls = (worlds.boxes.centre.reshape(COUNT, 3, 4, 3) < 0.5 * FAR).all((2, 3))
    assert {1, 2, 3} == set(walls.sum(1))
    room = worlds.boxes.distances(middle[:, None]).min(1)[walls]
    assert room.min() >= 0.5 - 1e-9 and room.max() <= 0.8 + 1e-9
    normal = (worlds.route[:, 1:6:2] - worlds.route[:, 0:6:2])[walls]
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    world = np.nonzero(walls)[0]
    side = np.stack([-normal[:, 1], normal[:, 0], 0.0 * normal[:, 0]], axis=-1)
    for angle in np.linspace(0.0, 2.0 * np.pi, 16):
        for radius in (1.2, 2.0, 4.0):  # beyond the corner of the largest window, within the wall
            around = middle[walls] + radius * (np.cos(angle) * side + np.sin(angle) * np.array([0.0, 0.0, 1.0]))
            inside = worlds.boxes.rows(world).distances(around[:, None, None])[..., 0].min(1)
            assert inside.max() <= 1e-9  # 0 on a seam between two boxes
