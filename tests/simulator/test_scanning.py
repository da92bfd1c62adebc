"""The range sensor and the search for the closest approach, against the same without leaving anything out."""

from __future__ import annotations

import numpy as np
import pytest

from tests.simulator.patterns import PATTERNS, even
from tests.simulator.scanning import Scanner, profile
from tests.simulator.worlds import FAMILIES, Worlds

NOISE, DROPOUT = 0.05, 0.2
RAYS = even(512, np.random.default_rng(0))


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def worlds(request: pytest.FixtureRequest) -> Worlds:
    return FAMILIES[request.param](20, np.random.default_rng(0))


def scan(worlds: Worlds, noise: float = 0.0, dropout: float = 0.0, scanner: Scanner | None = None):
    place = worlds.start + 0.3 * (worlds.goal - worlds.start)
    return place, *(scanner or Scanner()).scan(worlds.solids, place, noise, dropout, np.random.default_rng(1))


def every_distance(worlds: Worlds, points: np.ndarray) -> np.ndarray:
    """Distance (w, s) of ``points`` (w, s, 3) to the nearest solid."""
    each = [kind.distances(points[:, None]).min(1, initial=np.inf) for kind in worlds.solids]
    return np.minimum(*each)


def test_the_rays_are_unit_vectors_spread_evenly_over_the_sphere() -> None:
    rays = RAYS
    np.testing.assert_allclose(np.linalg.norm(rays, axis=1), 1.0, rtol=1e-12)
    angles = np.arccos(np.clip(rays @ rays.T - 2.0 * np.eye(len(rays)), -1.0, 1.0)).min(1)
    even = np.sqrt(4.0 * np.pi / len(rays))  # the side of a square on which each ray stands for as much of the sphere
    assert 0.6 * even < angles.min() and angles.max() < 1.4 * even


@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_every_pattern_has_as_many_unit_vectors_as_asked_all_around(name: str) -> None:
    rng = np.random.default_rng(0)
    rays, again = (PATTERNS[name](512, rng) for _ in range(2))
    np.testing.assert_allclose(np.linalg.norm(rays, axis=1), 1.0, rtol=1e-12)
    assert len(rays) == 512 and np.abs(rays[:, :2].mean(0)).max() < 0.1
    assert np.array_equal(rays, again) == (name == "even")
    field = np.degrees(np.arcsin(np.abs(rays[:, 2]).max()))
    assert field == pytest.approx(45.0) if name.startswith("beams") else field > 80.0


def test_every_point_seen_lies_on_a_surface_with_nothing_before_it(worlds: Worlds) -> None:
    place, points, mask = scan(worlds)
    outside = every_distance(worlds, place[:, None])[:, 0] > 0.0
    assert 0.05 < mask[outside].mean() < 1.0
    seen = mask & outside[:, None]
    np.testing.assert_allclose(every_distance(worlds, np.where(seen[..., None], points, 0.0))[seen], 0.0, atol=1e-9)
    for share in np.linspace(0.0, 0.99, 12):
        between = place[:, None] + share * (np.where(seen[..., None], points, 0.0) - place[:, None])
        assert every_distance(worlds, between)[seen].min() > 0.0


def test_rays_without_an_echo_meet_nothing_within_reach(worlds: Worlds) -> None:
    few = worlds.rows(slice(0, 5))
    place, _, mask = scan(few)
    for distance in np.linspace(0.0, 8.0, 60):
        there = every_distance(few, place[:, None] + distance * RAYS)
        assert there[~mask].min() > -1e-9


def test_noise_and_dropout_have_the_size_that_was_asked_for(worlds: Worlds) -> None:
    place, exact, echo = scan(worlds)
    _, points, mask = scan(worlds, NOISE, DROPOUT)
    far = echo & (np.linalg.norm(exact - place[:, None], axis=-1) > 5.0 * NOISE)
    assert not (mask & ~echo).any() and np.isnan(points[~mask]).all()
    assert abs(mask[far].mean() - (1.0 - DROPOUT)) < 5.0 * np.sqrt(DROPOUT / far.sum())
    offset = (points - exact)[mask & far]
    along = np.einsum("ni,ni->n", offset, np.broadcast_to(RAYS, points.shape)[mask & far])
    np.testing.assert_allclose(np.linalg.norm(offset, axis=1), np.abs(along), atol=1e-12)
    assert abs(along.std() / NOISE - 1.0) < 5.0 / np.sqrt(2.0 * len(along))
    assert abs(along.mean()) < 5.0 * NOISE / np.sqrt(len(along))


def test_free_space_can_be_told_from_a_lost_ray(worlds: Worlds) -> None:
    place, _, echo = scan(worlds)
    _, points, mask = scan(worlds, scanner=Scanner(no_return=20.0))
    assert mask.all()
    np.testing.assert_allclose(np.linalg.norm(points - place[:, None], axis=-1)[~echo], 20.0)


def test_the_closest_approach_misses_no_solid(worlds: Worlds) -> None:
    way = np.linspace(0.0, 1.0, 60)[None, :, None]
    track = worlds.start[:, None] + way * (worlds.goal - worlds.start)[:, None]
    everything = every_distance(worlds, track)
    np.testing.assert_allclose(profile(worlds.solids, worlds.start, track, np.full(20, np.inf)), everything, atol=1e-9)
    known = 0.5 * everything.max(1)
    some = profile(worlds.solids, worlds.start, track, known)
    below = everything < known[:, None]
    np.testing.assert_allclose(some[below], everything[below], atol=1e-9)
    assert (some >= everything - 1e-9).all()
