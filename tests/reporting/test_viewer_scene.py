"""What the viewer is given of obstacles, ground and sensor."""

import base64
import dataclasses
import html
import json
import re

import numpy as np
import pytest

from drone_cbf.reporting.obstacles import Boxes, Obstacles
from drone_cbf.reporting.pages import viewer_sensor
from drone_cbf.reporting.pages.viewer import SENSOR_BYTES, ShownFlight, frame_steps, interactive_viewer
from drone_cbf.reporting.pages.viewer_scene import scene

from .test_viewer import browse, embedded, needs_browser
from .worlds import GROUND, distance, every_shape, through_the_window


def corners(solid) -> np.ndarray:
    return np.concatenate([np.reshape(face, (-1, 3)) for face in solid["faces"]])


def with_sensor(steps: int = 30, rays: int = 40, **changes):
    """Random hits, a third of which are none, and random images with a corner that saw nothing."""
    draw = np.random.default_rng(0)
    seen = draw.uniform([-4, -3, 0], [5, 3, 3], (steps, rays, 3))
    depth = draw.uniform(0.5, 7.5, (steps, 12, 16))
    depth[:, :3, :3] = np.inf
    fields = {"seen": seen, "seen_mask": draw.uniform(size=(steps, rays)) < 2 / 3, "depth": depth}
    return through_the_window(steps, **fields | changes)


def unpacked(seen) -> list[np.ndarray]:
    levels = np.frombuffer(base64.b64decode(seen["data"]), "<u2").reshape(-1, 3)
    points = np.array(seen["low"]) + np.array(seen["size"]) * levels / 65535
    return np.split(points, np.cumsum(seen["counts"])[:-1])


def test_the_page_holds_every_shape_where_it_is_and_how_it_moves():
    entry = embedded(interactive_viewer([ShownFlight(through_the_window())], "t"))["entries"][0]
    low, high = np.transpose(entry["box"])
    solids = entry["polyhedra"]
    assert [solid["round"] for solid in solids] == [False] * 6 + [True] * 2 and entry["ground"] == GROUND
    for index, solid in enumerate(solids):
        # Every corner lies on the surface of the shape, or where the view cuts it.
        found = corners(solid)
        cut = (np.abs(found - low) < 0.012).any(-1) | (np.abs(found - high) < 0.012).any(-1)
        cut |= np.abs(found[:, 2] - GROUND) < 2e-3
        assert np.allclose(distance(every_shape(), found)[3 + index][~cut], 0.0, atol=2e-3)
        assert (found > low + 5e-3).all() and (found < high - 5e-3).all(), "the browser cuts away what is at the edge"
    assert [solid["velocity"] for solid in solids if any(solid["velocity"])] == [[0.0, 0.8, 0.0]]
    assert [-0.6, -0.2, 0.0] in [capsule[3] for capsule in entry["obstacles"]]


def test_a_long_wall_near_the_path_is_cut_and_closed_and_one_far_away_left_out():
    centre = np.array([[0.0, 21.0, 1.0], [0.0, 40.0, 1.0]])
    half = np.array([[0.1, 20.2, 9.0], [0.1, 1.0, 1.0]])
    walls = Boxes(centre, half, np.stack([np.eye(3)] * 2), np.ones(2, bool))
    shown = scene([through_the_window(obstacles=Obstacles(boxes=walls))])
    (wall,) = shown["polyhedra"]
    assert len(wall["faces"]) == 6 and 0.0 <= shown["box"][1][1] - corners(wall)[:, 1].max() < 0.2
    assert shown["box"][1][1] < 5.0


def test_a_wall_that_reaches_into_the_view_is_closed_where_the_view_ends():
    """It is 1.15 m from the path, too far to widen the view. The browser cuts away what lies at the view's edge."""
    wall = Boxes(np.array([[-2.2, 3.4, 1.6]]), np.array([[0.1, 2.6, 0.5]]), np.eye(3)[None], np.ones(1, bool))
    shown = scene([through_the_window(obstacles=Obstacles(boxes=wall))])
    edge, (solid,) = shown["box"][1][1], shown["polyhedra"]
    assert len(solid["faces"]) == 6 and edge - 0.05 < corners(solid)[:, 1].max() < edge - 2e-3


def test_the_view_holds_a_moving_obstacle_where_it_comes_near_and_no_farther():
    """It starts 9 m to the side and meets the drone in the middle of its flight."""
    box = Boxes(
        np.array([[0.0, 9.4, 1.6]]), np.full((1, 3), 0.3), np.eye(3)[None], np.ones(1, bool), np.array([0.0, -3.6, 0.0])
    )
    shown = scene([through_the_window(obstacles=Obstacles(boxes=box))])
    assert len(shown["polyhedra"]) == 1
    flown = through_the_window()
    gaps = np.abs(9.4 - 3.6 * flown.times - flown.position[:, 1]) + np.abs(flown.position[:, 0])
    meeting = 9.4 - 3.6 * flown.times[np.argmin(gaps)]
    assert shown["box"][1][0] < meeting < shown["box"][1][1] < 4.0


def test_a_ground_far_below_is_not_shown():
    flight = through_the_window(obstacles=dataclasses.replace(every_shape(), ground=-30.0))
    shown = scene([flight])
    assert shown["ground"] is None and shown["box"][2][0] > -2.0


def test_hits_and_depths_come_back_within_their_quantisation():
    flight = with_sensor()
    sensor = embedded(interactive_viewer([ShownFlight(flight)], "t"))["entries"][0]["sensor"]
    steps = np.minimum(frame_steps(flight.steps), flight.steps - 1)
    assert sensor["stride"] == 1 and len(sensor["seen"]["counts"]) == len(steps)
    for step, points in zip(steps, unpacked(sensor["seen"]), strict=True):
        np.testing.assert_allclose(points, flight.seen[step][flight.seen_mask[step]], atol=9.0 / 65535)
    image = sensor["depth"]
    levels = np.frombuffer(base64.b64decode(image["data"]), np.uint8).reshape(-1, image["height"], image["width"])
    assert (levels[:, :3, :3] == 255).all() and (levels == 255).sum() == 9 * len(steps)
    depths = image["far"] * levels / 254
    seen = levels < 255
    assert np.abs(depths - flight.depth[steps])[seen].max() < 0.51 * image["far"] / 254 + 1e-3


def test_too_many_readings_are_thinned_in_time_to_the_pages_share():
    flight, steps = with_sensor(), np.arange(30)
    whole, small = (viewer_sensor.packed(flight, steps, budget) for budget in (SENSOR_BYTES, 5_000))
    size = sum(len(small[layer]["data"]) for layer in ("seen", "depth"))
    assert small["stride"] > 1 and size < 1.3 * 5_000
    kept = unpacked(small["seen"])
    assert len(kept) == -(-len(steps) // small["stride"])
    np.testing.assert_allclose(kept[1], unpacked(whole["seen"])[small["stride"]], atol=3e-4)


def test_large_readings_are_thinned_to_what_a_page_can_show():
    depth = np.arange(480 * 640, dtype=float).reshape(1, 480, 640)
    flight = with_sensor(1, 3000, seen_mask=None, depth=depth)
    sensor = viewer_sensor.packed(flight, np.zeros(1, int), SENSOR_BYTES)
    assert sensor["seen"]["counts"][0] <= viewer_sensor.MOST_POINTS
    assert max(sensor["depth"]["width"], sensor["depth"]["height"]) <= viewer_sensor.WIDEST_IMAGE


def test_a_flight_without_a_sensor_and_a_reading_without_hits_are_shown():
    none = with_sensor(4, seen_mask=np.zeros((4, 40), bool), depth=np.full((4, 6, 8), np.nan))
    entries = embedded(interactive_viewer([ShownFlight(through_the_window(4)), ShownFlight(none)], "t"))["entries"]
    assert entries[0]["sensor"] is None and entries[1]["sensor"]["seen"]["counts"] == [0] * 5


def test_sensor_fields_must_belong_to_the_flight():
    flight = with_sensor(5)
    wrong = {
        r"seen has shape \(4, 40, 3\), expected \(5, 40, 3\)": {"seen": flight.seen[:-1]},
        "seen_mask has shape": {"seen_mask": flight.seen_mask[:, :-1]},
        "seen_mask without seen": {"seen": None},
        r"depth has shape \(4, 12, 16\)": {"depth": flight.depth[:-1]},
    }
    for message, change in wrong.items():
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(flight, **change)
    lost = flight.seen.copy()
    lost[2, 5] = np.inf
    assert not dataclasses.replace(flight, seen=lost, seen_mask=None).seen_mask[2, 5]
    assert len(dataclasses.replace(flight, seen_mask=None).hits(2)) == 40


@needs_browser
def test_a_browser_shows_hits_and_moving_obstacles_of_the_chosen_frame(tmp_path):
    flight = with_sensor(40)
    page = interactive_viewer([ShownFlight(flight)], "t")
    # Two traces as they are drawn after every move, into an attribute that the browser prints.
    report = """const untold = move; move = k => { untold(k);
      const shown = el("space").data.filter(({ name }) => ["moving obstacle", "sensor hits"].includes(name));
      const drawn = shown.map(({ name, x, y, z }) => [name, x, y, z]);
      document.body.dataset.drawn = JSON.stringify(drawn); };"""
    before, last, after = page.rpartition("const chosen =")
    result = browse(before + report + last + after, tmp_path, "flight=0&frame=24")
    assert "Uncaught" not in result.stderr and "depth: dark 0 m" in result.stdout
    assert '<label id="sensorLabel">' in result.stdout and '<figure id="depth">' in result.stdout
    drawn = json.loads(html.unescape(re.search(r'data-drawn="(.*?)"', result.stdout)[1]))
    (moving, *corner), (hits, *points) = drawn
    assert (moving, hits) == ("moving obstacle", "sensor hits")
    np.testing.assert_allclose(np.transpose(points), flight.hits(24), atol=2e-4)
    gaps = distance(every_shape().at(24 * flight.time_step), np.transpose(corner))
    assert np.abs(gaps[[2, 8]]).min(0).max() < 2e-3, "each on the surface of the sphere or the crate that move"
