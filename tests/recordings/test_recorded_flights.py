"""A flight written as MCAP or Rerun is the flight that other programs read."""

from __future__ import annotations

import builtins
import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from drone_cbf.errors import ConfigError
from drone_cbf.recordings.saving import FORMATS, save_flight
from drone_cbf.reporting.records import Flight
from tests.recordings.reading import columns, messages, xyz
from tests.reporting.worlds import distance, through_the_window

STATUSES = ("nominal", "intervened")
STEPS = 12


@pytest.fixture(scope="module")
def flight() -> Flight:
    draw = np.random.default_rng(0)
    depth = np.where(draw.random((STEPS, 3, 4)) < 0.3, np.inf, draw.uniform(1.0, 5.0, (STEPS, 3, 4)))
    barrier = np.where(np.arange(STEPS) == 3, np.nan, 1.0)
    return through_the_window(
        STEPS,
        seen=draw.uniform(-3.0, 3.0, (STEPS, 9, 3)), seen_mask=draw.random((STEPS, 9)) < 0.7, depth=depth,
        status=(np.arange(STEPS) >= 5).astype(int), barrier=barrier,
    )  # fmt: skip


@pytest.fixture(scope="module")
def mcap(flight: Flight, tmp_path_factory: pytest.TempPathFactory) -> dict:
    return messages(save_flight(flight, tmp_path_factory.mktemp("mcap") / "one.mcap", STATUSES))


@pytest.fixture(scope="module")
def rerun(flight: Flight, tmp_path_factory: pytest.TempPathFactory) -> dict:
    return columns(save_flight(flight, tmp_path_factory.mktemp("rerun") / "one.rrd", STATUSES))


def test_mcap_holds_every_state_at_its_time(flight: Flight, mcap: dict) -> None:
    expected = np.round(flight.times * 1e9).astype(int)
    assert [time for time, _ in mcap["/odometry"]] == [time for time, _ in mcap["/tf"]] == expected.tolist()
    placed = [xyz(message.pose.position) for _, message in mcap["/odometry"]]
    moved = [xyz(message.transforms[0].translation) for _, message in mcap["/tf"]]
    speeds = [xyz(message.linear_velocity) for _, message in mcap["/odometry"]]
    np.testing.assert_allclose(placed, flight.position)
    np.testing.assert_allclose(moved, flight.position)
    np.testing.assert_allclose(speeds, flight.velocity)
    assert {m.transforms[0].child_frame_id for _, m in mcap["/tf"]} == {"drone"}


@pytest.fixture(scope="module")
def turning(flight: Flight) -> Flight:
    """The same flight by a drone that turns: at every state otherwise."""
    draw = np.random.default_rng(4)
    attitude = draw.normal(size=(STEPS + 1, 4))
    attitude /= np.linalg.norm(attitude, axis=-1, keepdims=True)
    return dataclasses.replace(flight, attitude=attitude, rates=draw.normal(size=(STEPS + 1, 3)))


def test_mcap_turns_the_drones_frame_and_gives_its_motion_in_it(turning: Flight, tmp_path: Path) -> None:
    found = messages(save_flight(turning, tmp_path / "turning.mcap", STATUSES))
    for step, ((_, moved), (_, told)) in enumerate(zip(found["/tf"], found["/odometry"], strict=True)):
        w, x, y, z = turning.attitude[step]
        # Written out: the matrix of a unit quaternion takes body axes to world axes.
        matrix = np.array([
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ])  # fmt: skip
        for turn in (moved.transforms[0].rotation, told.pose.orientation):
            np.testing.assert_allclose([turn.w, turn.x, turn.y, turn.z], [w, x, y, z], atol=1e-9)
        np.testing.assert_allclose(matrix @ xyz(told.linear_velocity), turning.velocity[step], atol=1e-9)
        np.testing.assert_allclose(xyz(told.angular_velocity), turning.rates[step])
    (body,) = (entity for entity in found["/scene"][0][1].entities if entity.id == "body")
    assert body.frame_id == "drone" and body.frame_locked and len(body.cubes) == 2 and len(body.arrows) == 1


def test_rerun_turns_the_drone_and_plots_its_rates(turning: Flight, tmp_path: Path) -> None:
    found = columns(save_flight(turning, tmp_path / "turning.rrd", STATUSES))
    turns = np.squeeze(found["/world/drone"]["Transform3D:quaternion"])
    np.testing.assert_allclose(turns, turning.attitude[:, [1, 2, 3, 0]], atol=1e-6)
    for axis, letter in enumerate("xyz"):
        np.testing.assert_allclose(np.squeeze(found[f"/rates/{letter}"]["Scalars:scalars"]), turning.rates[:, axis])
    assert {"/world/drone/hull", "/world/drone/arms", "/world/drone/ahead"} <= found.keys()


def test_a_drone_without_attitude_is_recorded_level(mcap: dict, rerun: dict) -> None:
    assert {(turn.x, turn.y, turn.z, turn.w) for _, m in mcap["/tf"] for turn in [m.transforms[0].rotation]} == {
        (0.0, 0.0, 0.0, 1.0)
    }
    assert "body" not in {entity.id for entity in mcap["/scene"][0][1].entities}
    assert "Transform3D:quaternion" not in rerun["/world/drone"] and "/rates/x" not in rerun


def surface_points(entity: object) -> list[np.ndarray]:
    """Random points on the surfaces of all primitives of an entity, world frame, per primitive."""
    draw, found = np.random.default_rng(1), []
    for kind in ("cubes", "spheres", "cylinders"):
        for primitive in getattr(entity, kind):
            around = draw.normal(size=(60, 3))
            if kind == "cubes":
                own = around / np.abs(around).max(1, keepdims=True)
            elif kind == "spheres":
                own = around / np.linalg.norm(around, axis=1, keepdims=True)
            else:
                flat = np.linalg.norm(around[:, :2], axis=1, keepdims=True)
                own = np.column_stack([around[:, :2] / flat, draw.uniform(-1.0, 1.0, 60)])
            o = primitive.pose.orientation
            turned = Rotation.from_quat([o.x, o.y, o.z, o.w]).apply(own * xyz(primitive.size) / 2.0)
            found.append(turned + xyz(primitive.pose.position))
    return found


def test_solids_in_mcap_have_the_surfaces_of_the_obstacles(flight: Flight, mcap: dict) -> None:
    _, first = mcap["/scene"][0]
    moving = [(time, entity) for time, update in mcap["/scene"][1:] for entity in update.entities]
    solids = [(0, e) for e in first.entities if re.match("capsule|box|cylinder", e.id)] + moving
    assert {e.id for _, e in moving} == {"capsule_2", "box_5"} and len({e.id for _, e in solids}) == 11
    order = [*(f"capsule_{i}" for i in range(3)), *(f"box_{i}" for i in range(6)), "cylinder_0", "cylinder_1"]
    for time, entity in solids:
        obstacles = flight.obstacles.at(time / 1e9)
        gaps = [distance(obstacles, part)[order.index(entity.id)] for part in surface_points(entity)]
        # A capsule is drawn as a cylinder and two balls, half of which lies inside.
        assert all(np.max(gap) == pytest.approx(0.0, abs=1e-5) for gap in gaps), entity.id
        if not entity.id.startswith("capsule"):
            np.testing.assert_allclose(gaps, 0.0, atol=1e-5)


def test_mcap_holds_what_was_sensed_and_decided(flight: Flight, mcap: dict) -> None:
    for step, ((_, cloud), (_, image), (_, text)) in enumerate(
        zip(mcap["/points"], mcap["/depth"], mcap["/filter"], strict=True)
    ):
        points = np.frombuffer(cloud.data, "<f4").reshape(-1, 3)
        np.testing.assert_allclose(points, flight.hits(step), rtol=1e-6)
        pixels = np.frombuffer(image.data, "<f4").reshape(image.height, image.width)
        np.testing.assert_allclose(pixels, np.where(np.isinf(flight.depth[step]), np.nan, flight.depth[step]), 1e-6)
        decided = json.loads(text)
        assert decided["command"] == flight.command[step].tolist()
        assert decided["barrier"] == (None if step == 3 else 1.0)
        assert decided["status"] == STATUSES[step >= 5]
    assert [message.message for _, message in mcap["/log"]][:2] == ["filter: nominal", "filter: intervened"]
    assert mcap["/log"][-1][1].message == "window: reached, least clearance 0.300 m"


def test_rerun_holds_every_state_and_curve(flight: Flight, rerun: dict) -> None:
    drone = rerun["/world/drone"]
    times = [moment.total_seconds() for moment in drone["flight"]]
    np.testing.assert_allclose(times, flight.times, atol=1e-9)
    np.testing.assert_allclose(np.squeeze(drone["Transform3D:translation"]), flight.position, atol=1e-6)
    np.testing.assert_allclose(np.squeeze(rerun["/speed"]["Scalars:scalars"]), flight.speed)
    curve = np.squeeze(rerun["/barrier/barrier"]["Scalars:scalars"])
    np.testing.assert_array_equal(curve, flight.barrier)
    for axis, letter in enumerate("xyz"):
        flown = np.squeeze(rerun[f"/commands/command_{letter}"]["Scalars:scalars"])
        np.testing.assert_allclose(flown, flight.command[:, axis])
    hits = rerun["/world/points"]["Points3D:positions"]
    assert [len(points) for points in hits] == [len(flight.hits(step)) for step in range(STEPS)]


def test_solids_in_rerun_are_where_the_obstacles_are(flight: Flight, rerun: dict) -> None:
    obstacles, times = flight.obstacles, flight.times[:, None]
    boxes, balls = obstacles.boxes, obstacles.capsules
    for index in range(5):
        shape = rerun[f"/world/obstacles/box_{index}"]
        np.testing.assert_allclose(shape["Boxes3D:centers"][0][0], boxes.centre[index], atol=1e-6)
        np.testing.assert_allclose(shape["Boxes3D:half_sizes"][0][0], boxes.half_size[index], atol=1e-6)
        turned = Rotation.from_quat(shape["Boxes3D:quaternions"][0][0]).as_matrix()
        np.testing.assert_allclose(turned, boxes.rotation[index], atol=1e-6)
    moved = rerun["/world/obstacles/capsule_2"]
    path = balls.centre[2] + times * balls.velocity[2]
    np.testing.assert_allclose(np.squeeze(moved["Transform3D:translation"]), path, atol=1e-6)
    assert moved["Ellipsoids3D:centers"][0][0] == [0.0, 0.0, 0.0], "drawn at the origin of its own frame"
    trunk = rerun["/world/obstacles/capsule_1"]
    lower, length = trunk["Capsules3D:translations"][0][0], trunk["Capsules3D:lengths"][0][0]
    beam = [np.add(lower, [0.0, 0.0, share * length]) for share in (0.0, 0.5, 1.0)]
    np.testing.assert_allclose(distance(obstacles, np.array(beam))[1], -balls.radius[1], atol=1e-6)


@pytest.mark.parametrize("ending", FORMATS)
def test_a_file_that_cannot_be_finished_leaves_the_one_before(
    flight: Flight, ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_flight(flight, tmp_path / f"one{ending}", STATUSES)
    before = path.read_bytes()
    with pytest.raises(IndexError):
        save_flight(flight, path, STATUSES[:1])  # the second status has no name
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_an_unknown_ending_and_a_missing_package_are_told_with_the_remedy(
    flight: Flight, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=re.escape("'.bag' is no format of recorded flights; the endings are .mcap")):
        save_flight(flight, tmp_path / "one.bag", STATUSES)
    real = builtins.__import__

    def without_foxglove(name: str, *rest: object, **named: object) -> object:
        if name.partition(".")[0] == "foxglove":
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without_foxglove)
    monkeypatch.delitem(__import__("sys").modules, "drone_cbf.recordings.mcap_files", raising=False)
    with pytest.raises(ConfigError, match="needs the package foxglove: pip install -e"):
        save_flight(flight, tmp_path / "one.mcap", STATUSES)
    assert not list(tmp_path.iterdir())
