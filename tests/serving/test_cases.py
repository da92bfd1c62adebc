"""Kinds of worlds in which a controller must brake, and changes of a cloud that may change nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from drone_cbf.config import BarrierConfig, SystemConfig
from drone_cbf.controller import ControllerParams
from drone_cbf.serving.clouds import fitted_cloud, urgency_in
from drone_cbf.serving.observations import check_observations
from drone_cbf.serving.service import CLOUD_SIZES, PolicyService
from tests.perception.worlds import random_barrier, random_policy, small_system
from tests.serving.services import ANALYTIC, LIMIT, NEARLY_ANALYTIC, SYSTEM, lidar_service, seen, with_params

AHEAD, BESIDE = np.array([[1.5, 0.0, 1.0]]), np.array([[0.0, 2.0, 1.0]])
OBLIQUE = {"thrust": [[6.0, -1.0, -2.0]], "queue": [[[8.2, 3.0, -4.7], [7.1, 0.1, -2.7]]]}
PERIOD = 0.05


def unlabelled(blend: float) -> tuple[SystemConfig, ControllerParams]:
    """A policy for labelled points, to be served with points that have no labels."""
    system = small_system(barrier=BarrierConfig(base="braking", features=8))
    return system, ANALYTIC.replace(
        policy=random_policy(system), barrier=random_barrier(system), blend=np.float32(blend)
    )


@pytest.fixture(scope="module", params=["analytic", "neural", "labels"])
def service(request: pytest.FixtureRequest) -> PolicyService:
    if request.param == "labels":
        return PolicyService(*unlabelled(0.0))
    return with_params(lidar_service(), ANALYTIC if request.param == "analytic" else NEARLY_ANALYTIC)


def answer(service: PolicyService, *arguments: Any, **fields: Any) -> tuple[np.ndarray, float, str]:
    """Command [m/s^2], h [m] and status."""
    given = service(seen(*arguments, **fields))
    return given["command"][0], float(given["h"][0]), given["status"][0]


def assert_same(one: tuple[np.ndarray, float, str], other: tuple[np.ndarray, float, str]) -> None:
    """Equal to the last bit."""
    np.testing.assert_array_equal(one[0], other[0])
    assert one[1:] == other[1:]


def wall(distance: float, spacing: float, half: float = 1.2) -> np.ndarray:
    """Points of the plane x = ``distance`` [m] before the example's drone, ``spacing`` [m] apart."""
    steps = np.arange(-half, half + 1e-9, spacing)
    y, z = np.meshgrid(steps, steps)
    return np.stack([np.full(y.size, distance), y.ravel(), 1.0 + z.ravel()], axis=-1)


def test_towards_a_point_it_brakes_and_h_is_negative(service: PolicyService) -> None:
    command, h, status = answer(service, np.concatenate([AHEAD, BESIDE]))
    assert command[0] < -6.0 and -0.3 < h < 0.0 and status in ("nominal", "intervened")


@pytest.mark.parametrize("copies", [2, 7, 8, 9, 20, 21, 64])
def test_a_point_sent_many_times_counts_once(service: PolicyService, copies: int) -> None:
    once = answer(service, np.concatenate([AHEAD, BESIDE]))
    assert_same(answer(service, np.concatenate([np.tile(AHEAD, (copies, 1)), BESIDE])), once)
    assert_same(answer(service, np.concatenate([BESIDE, np.tile(AHEAD, (copies, 1))])), once)


@pytest.mark.parametrize("grid", [0.5, 0.25])
@pytest.mark.parametrize("distance", [1.0, 1.5])
def test_rounding_to_a_grid_that_is_not_made_unique_is_as_the_unique_grid(
    service: PolicyService, distance: float, grid: float
) -> None:
    rounded = np.round(wall(distance, 0.12) / grid) * grid
    assert len(np.unique(rounded, axis=0)) < len(rounded) < 512
    whole = answer(service, rounded)
    assert whole[1] < 0.0 and whole[0][0] < -6.0
    assert_same(answer(service, np.unique(rounded, axis=0)), whole)


def test_the_order_of_points_changes_nothing_even_among_the_equally_far(service: PolicyService) -> None:
    points = wall(1.5, 0.15)
    given = answer(service, points)
    for seed in range(5):
        assert_same(answer(service, np.random.default_rng(seed).permutation(points)), given)


def test_a_dense_wall_counts_as_a_sparse_one(service: PolicyService) -> None:
    """Every spacing has the point straight ahead: others differ in number. Across, the policy acts."""
    sparse, medium, dense = (answer(service, wall(1.5, spacing)) for spacing in (0.3, 0.2, 0.12))
    for other in (medium, dense):
        assert other[1] == pytest.approx(sparse[1], abs=0.02)
        assert other[0][0] == pytest.approx(sparse[0][0], abs=0.1)


@pytest.mark.parametrize("distance", [0.8, 1.1, 1.4])
@pytest.mark.parametrize("speed", [3.0, 5.0])
def test_before_a_wall_h_is_at_most_its_closed_form(service: PolicyService, distance: float, speed: float) -> None:
    """Braking distance from the acting point, 0.13 s ahead: drag changes the speed there by under 5 %."""
    ahead, closing = distance - 0.13 * speed, 0.95 * speed
    expected = ahead - 0.22 - 0.12 * closing - closing**2 / 14.0
    command, h, _ = answer(service, wall(distance, 0.2), velocity=(speed, 0.0, 0.0))
    assert expected - 1.0 < h < expected + 0.02 and command[0] < 0.0


@pytest.mark.parametrize("heading", [0.0, 0.7, 2.1, 3.9])
@pytest.mark.parametrize("climb", [0.0, 0.5])
@pytest.mark.parametrize(
    ("speed", "distance"), [(3.0, 0.3), (5.0, 0.3), (5.0, 0.6), (12.0, 1.5), (15.0, 1.5), (30.0, 1.5)]
)
def test_a_point_before_the_acting_point_is_an_obstacle_and_the_stop_is_impossible(
    service: PolicyService, speed: float, distance: float, heading: float, climb: float
) -> None:
    way = np.array([np.cos(heading) * np.cos(climb), np.sin(heading) * np.cos(climb), np.sin(climb)])
    velocity, position = speed * way, np.array([0.0, 0.0, 1.0])
    command, h, status = answer(service, position + distance * way, velocity=velocity, goal=position + 8.0 * way)
    assert status == "unavoidable" and h < 0.0
    full = np.where(np.abs(velocity) / PERIOD > LIMIT, -np.sign(velocity) * LIMIT, -velocity / PERIOD)
    sure = np.abs(np.abs(velocity) / PERIOD - LIMIT) > 3.0  # elsewhere drag on the way decides
    np.testing.assert_allclose(command[sure], full[sure], atol=1.0)
    assert np.all(np.abs(command[np.abs(full) == LIMIT]) > 0.85 * LIMIT[np.abs(full) == LIMIT])


SPEEDS, WAYS = [100.0, 199.0, -199.0], [(1.0, 0.0, 0.0), (1.0, 1.0, 1.0), (0.0, -1.0, 0.5)]


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("service", ["analytic", "neural"], indirect=True)
def test_at_any_speed_that_is_not_refused_it_brakes(
    service: PolicyService, speed: float, way: tuple[float, ...]
) -> None:
    check_braking(service, AHEAD, speed, way)


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("service", ["labels"], indirect=True)
def test_without_a_scan_it_brakes_at_any_speed_for_a_point_in_its_way(
    service: PolicyService, speed: float, way: tuple[float, ...]
) -> None:
    """Labelled points do not say what else was looked at, so elsewhere the policy acts."""
    heading = np.sign(speed) * np.array(way) / np.linalg.norm(way)
    check_braking(service, np.array([0.0, 0.0, 1.0]) + 1.5 * heading, speed, way)


def check_braking(service: PolicyService, points: np.ndarray, speed: float, way: tuple[float, ...]) -> None:
    velocity = speed * np.array(way) / np.linalg.norm(way)
    command, h, _ = answer(service, points, velocity=velocity)
    moving = velocity != 0.0
    np.testing.assert_allclose(command[moving], -(np.sign(velocity) * LIMIT)[moving], atol=1e-3)
    assert h < 0.0


def oblique(turn: Rotation, distance: float, points: np.ndarray) -> dict[str, Any]:
    """The example's flight past the nearest point of a wall, ``distance`` [m] away, in a world turned by ``turn``."""
    place = np.array([1.0 - distance, 0.0, 1.0])
    world = {"position": place, "velocity": [2.79, -2.42, 1.52], "goal": [6.0, 3.0, 0.0], "points": points}
    turned = {name: turn.apply(np.asarray(value, float))[None] for name, value in world.items()}
    more = {"thrust": turn.apply(OBLIQUE["thrust"]), "queue": turn.apply(OBLIQUE["queue"][0])[None]}
    return {**turned, **more, "mask": np.ones(turned["points"].shape[:2], bool)}


@pytest.mark.parametrize("turn", range(4))
@pytest.mark.parametrize("distance", [0.19, 0.23, 0.28])
@pytest.mark.parametrize("whole", [False, True])
def test_flying_past_the_nearest_point_of_a_wall_into_it_it_brakes(
    service: PolicyService, turn: int, distance: float, whole: bool
) -> None:
    """The nearest point to the drone is not the one nearest to where the command acts, and it has a surface."""
    rotation = Rotation.from_euler("z", 1.3 * turn)
    points = wall(1.0, 0.12) if whole else np.array([[1.0, 0.0, 1.0]])
    given = service(oblique(rotation, distance, points))
    into = rotation.apply([2.79, -2.42, 1.52]) / np.linalg.norm([2.79, -2.42, 1.52])
    assert given["h"][0] < 0.0 and given["status"][0] == "unavoidable"
    assert given["command"][0] @ into < -11.0
    assert given["command"][0] @ rotation.apply([1.0, 0.0, 0.0]) <= -8.0


def thinned(points: np.ndarray, size: int, world: dict[str, Any]) -> np.ndarray:
    """Those of ``points`` that stay of a cloud too large for ``size``."""
    cloud = fitted_cloud(check_observations(seen(points, **world), 2), np.zeros((1, 3)), (size,), urgency_in(SYSTEM))
    return cloud.points[cloud.mask]


def test_a_wall_thinned_to_a_quarter_is_judged_as_the_whole() -> None:
    """What the controller looks for where a command acts is among what is left."""
    analytic, points, braked = with_params(lidar_service(), ANALYTIC), wall(1.0, 0.05, 1.1), 0
    assert 512 < len(points) <= CLOUD_SIZES[-1]
    rng = np.random.default_rng(0)
    for _ in range(30):
        velocity = rng.normal(size=3) * [1.5, 2.5, 1.0] + [2.5, 0.0, 0.0]
        place = np.array([1.0, 0.0, 1.0]) + rng.uniform([-1.5, -0.2, -0.2], [-0.2, 0.2, 0.2])
        world = {"position": place, "velocity": velocity}
        whole, part = answer(analytic, points, **world), answer(analytic, thinned(points, 512, world), **world)
        assert part[1] == pytest.approx(whole[1], abs=0.05) and part[2] == whole[2]
        braked += whole[1] < 0.0
    assert 5 < braked < 30


def test_a_hundred_thousand_points_of_an_oblique_wall_are_braked_for() -> None:
    points = wall(1.0, 2.2 / 318, 1.1)
    assert len(points) > 100_000
    given = with_params(lidar_service(), ANALYTIC)(oblique(Rotation.identity(), 0.23, points))
    assert given["h"][0] < 0.0 and given["command"][0, 0] <= -8.0 and given["status"][0] == "unavoidable"


def test_a_scan_of_the_oblique_wall_holds_the_drone_back_before_it_is_too_late(service: PolicyService) -> None:
    """0.3 s earlier on the same way, 1.07 m from the wall."""
    points = wall(1.0, 0.12)
    position = np.array([0.77, 0.0, 1.0]) - 0.3 * np.array([2.79, -2.42, 1.52])
    command, h, _ = answer(service, points, position=position, velocity=(2.79, -2.42, 1.52), goal=(6.0, 3.0, 0.0))
    assert command[0] < -6.0 and h < 0.0


@pytest.mark.parametrize("velocity", [(0.0, 0.0, 0.0), (3.0, 0.0, 0.0), (-0.3, 2.0, 1.0)])
def test_a_point_at_the_drone_is_counted_and_braked_for(service: PolicyService, velocity: tuple[float, ...]) -> None:
    command, h, status = answer(service, [[0.0, 0.0, 1.0]], velocity=velocity)
    assert status == "unavoidable" and h < 0.0
    moving = np.abs(velocity) > 0.0
    assert np.all(command[moving] * np.asarray(velocity)[moving] < 0.0)
    np.testing.assert_allclose(command[~moving], 0.0, atol=1e-5)


def test_what_is_masked_out_may_hold_anything(service: PolicyService) -> None:
    points = np.concatenate([AHEAD, BESIDE])
    given = answer(service, points)
    for junk in (np.nan, np.inf, -1e300, 0.3):
        mixed = np.concatenate([np.full((3, 3), junk), points, np.full((5, 3), junk)])
        mask = np.array([False] * 3 + [True] * 2 + [False] * 5)[None]
        assert_same(answer(service, mixed, mask=mask), given)


@pytest.mark.parametrize("turn", [0.4, 1.9, 2.8, 4.0, 5.5])
def test_the_heading_of_the_world_hardly_matters(service: PolicyService, turn: float) -> None:
    """Up to the limits of each axis and the sectors of directions, which are fixed in the world."""
    rotation = Rotation.from_euler("z", turn)
    place = np.array([0.0, 0.0, 1.0])
    points = np.concatenate([AHEAD, BESIDE]) - place
    velocity = np.array([3.0, 0.0, 0.0])
    _, h, _ = answer(service, points + place)
    fields = {"velocity": rotation.apply(velocity), "goal": place + rotation.apply([8.0, 0.0, 0.0])}
    command, turned, _ = answer(service, place + rotation.apply(points), **fields)
    assert turned == pytest.approx(h, abs=0.08)
    assert command @ rotation.apply([1.0, 0.0, 0.0]) < -6.0
