"""The drone in the viewer: turned as its model says, or as its command asks; checked against scipy's rotations."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from drone_cbf.reporting.pages.viewer import ShownFlight, interactive_viewer
from drone_cbf.reporting.pages.viewer_body import GRAVITY, attitudes, shortest_turns, tilts
from tests.reporting.test_viewer import browse, embedded, needs_browser


def rotations(attitude: np.ndarray) -> Rotation:
    return Rotation.from_quat(attitude, scalar_first=True)


def test_a_point_mass_has_its_upward_axis_along_the_thrust_that_its_command_takes(make_flight):
    flight = make_flight(steps=30)
    turned = attitudes(flight)
    thrust = flight.command + np.array([0.0, 0.0, GRAVITY])
    up = rotations(turned).apply([0.0, 0.0, 1.0])
    np.testing.assert_allclose(up[:-1], thrust / np.linalg.norm(thrust, axis=-1, keepdims=True), atol=1e-12)
    np.testing.assert_array_equal(turned[-1], turned[-2])
    np.testing.assert_allclose(rotations(turned).as_rotvec()[:, 2], 0.0, atol=1e-12, err_msg="heading left alone")
    np.testing.assert_allclose(tilts(turned), np.arccos(up[:, 2]), atol=1e-9)


def test_the_shortest_turn_is_that_of_scipy_also_upside_down_and_for_no_direction():
    up = np.array([[0.0, 0.0, 2.0], [1.0, 0.0, 0.0], [0.0, -3.0, 0.0], [0.2, 0.1, -4.0], [0.0, 0.0, -1.0], [0.0] * 3])
    turned = shortest_turns(up)
    np.testing.assert_allclose(np.linalg.norm(turned, axis=-1), 1.0)
    for turn, direction in zip(turned[:5], up[:5], strict=True):
        found = rotations(turn)
        unit = direction / np.linalg.norm(direction)
        np.testing.assert_allclose(found.apply([0.0, 0.0, 1.0]), unit, atol=1e-12)
        assert found.magnitude() == pytest.approx(np.arccos(unit[2]), abs=1e-6)
    np.testing.assert_array_equal(turned[5], [1.0, 0.0, 0.0, 0.0])


def test_attitude_and_rates_of_a_model_reach_the_page(make_flight):
    flight = make_flight(steps=12)
    turns = Rotation.from_euler("zyx", np.linspace([0.0, 0.0, 0.0], [1.0, 0.4, -0.3], 13)).as_quat(scalar_first=True)
    rates = np.linspace([0.0, 1.0, -2.0], [3.0, 0.0, 0.5], 13)
    flown = dataclasses.replace(flight, attitude=turns, rates=rates)
    plain, (entry,) = (embedded(interactive_viewer([ShownFlight(f)], "t"))["entries"] for f in (flight, flown))
    shown = entry["flights"][0]
    np.testing.assert_allclose(shown["attitude"], turns, atol=1e-4)
    np.testing.assert_allclose(shown["rates"], rates, atol=1e-2)
    assert shown["tilt"][-1] == pytest.approx(np.degrees(np.arccos(np.cos(0.4) * np.cos(-0.3))), abs=1e-3)
    assert plain[0]["flights"][0]["rates"] is None and len(plain[0]["flights"][0]["attitude"]) == 13


def test_attitudes_that_are_none_are_refused(make_flight):
    flight = make_flight(steps=3)
    with pytest.raises(ValueError, match="attitude holds a quaternion of length 2; all must have length 1"):
        dataclasses.replace(flight, attitude=np.tile([2.0, 0.0, 0.0, 0.0], (4, 1)))
    with pytest.raises(ValueError, match=r"rates has shape \(3, 3\)"):
        dataclasses.replace(flight, rates=np.zeros((3, 3)))


@needs_browser
def test_a_browser_draws_the_drone_and_the_camera_follows_it(make_flight, tmp_path):
    flight = dataclasses.replace(make_flight(steps=20), rates=np.full((21, 3), 0.5))
    pair = ShownFlight(flight, make_flight(steps=20, filtered=False))
    result = browse(interactive_viewer([pair], "t"), tmp_path, "frame=9&follow")
    assert "Uncaught" not in result.stderr and "Refused to" not in result.stderr
    tilt = np.degrees(tilts(attitudes(flight)))[9]
    assert f"<span>tilt {tilt:.0f}°</span><span>rates 0.5, 0.5, 0.5 rad/s</span>" in result.stdout
