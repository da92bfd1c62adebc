"""Swarms as figures and as a page: what is drawn is what was flown."""

from __future__ import annotations

import base64
import json
import re
import shutil

import numpy as np
import pytest

from drone_cbf.reporting.figures.swarms import density, swarm_figure
from drone_cbf.reporting.obstacles import Capsules, Obstacles
from drone_cbf.reporting.pages import swarm_viewer as page
from drone_cbf.reporting.pages.swarm_viewer import MOST_FRAMES, frame_steps, swarm_viewer
from drone_cbf.reporting.swarms import SwarmFlight
from tests.reporting.test_viewer import browse
from tests.reporting.worlds import boxes

STATUSES = ("nominal", "intervened", "relaxed", "no_authority", "fallback", "unavoidable", "no_points")
RADIUS = 0.05


def crossing(drones: int = 6, steps: int = 80, **changes) -> SwarmFlight:
    """Drones on a circle of 1 m that change places, half of them past each other at another height; the first two, at
    the same height, touch in the middle. The last fifth of the time they are there."""
    angle = 2.0 * np.pi * np.arange(drones) / drones
    start = np.stack([np.cos(angle), np.sin(angle), 0.3 * np.arange(drones)], -1)
    start[drones // 2, 2] = 0.0
    share = np.clip(np.linspace(0.0, 1.25, steps + 1), 0.0, 1.0)[:, None, None]
    goal = start * [-1.0, -1.0, 1.0]
    position = start + share * (goal - start)
    apart = np.linalg.norm(position[:-1, :, None] - position[:-1, None], axis=-1) + 1e3 * np.eye(drones)
    gap = apart.min(-1) - 2.0 * RADIUS
    centre = np.array([[0.0, 0.0, 3.0]])
    record = {
        "name": "crossing", "time_step": 0.05, "position": position, "gap": gap, "clearance": gap,
        "status": (gap < 0.4).astype(int), "at_goal": np.broadcast_to(share[..., 0] == 1.0, (steps + 1, drones)),
        "goal": goal, "obstacles": Obstacles(Capsules(centre, np.full(1, 0.3), np.zeros(1), np.ones(1, bool))),
        "drone_radius": RADIUS, "sight": 0.7, "perceived": 2,
    }  # fmt: skip
    return SwarmFlight(**record | changes)


def embedded(text: str) -> dict:
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.DOTALL)
    return json.loads(found.group(1))


def test_the_page_holds_every_place_to_a_sixty_thousandth_of_the_scene_and_every_status():
    flown = crossing()
    (shown,) = embedded(swarm_viewer([flown], "t", STATUSES))["swarms"]
    levels = np.frombuffer(base64.b64decode(shown["position"]), "<u2").reshape(flown.position.shape)
    places = shown["low"] + np.array(shown["size"]) * levels / 65535
    assert np.abs(places - flown.position).max() <= np.ptp(flown.position) / 65535
    codes = np.frombuffer(base64.b64decode(shown["status"]), np.uint8).reshape(-1, flown.drones)
    np.testing.assert_array_equal(codes[:-1], flown.status)
    np.testing.assert_array_equal(codes[-1], flown.status[-1])
    first = int(np.argmax(flown.gap[:, 0] < 0.0))
    assert first > 0 and shown["contact"][:2] == [first, -1] and shown["contact"][3] == first
    assert shown["settled"] == [64] * 6
    np.testing.assert_allclose(shown["gap"][:-1], flown.gap.min(1), atol=1e-4)


def test_large_swarms_are_thinned_in_time_and_no_contact_is_lost_by_it():
    shown = frame_steps(500, 1024, 1e6)
    assert shown[0] == 0 and shown[-1] == 500 and len(shown) <= 1e6 / (1024 * page.BYTES_PER_STATE) + 1
    assert len(frame_steps(2000, 8, 1e9)) <= MOST_FRAMES + 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "MOST_FRAMES", 7)
        (few,) = embedded(swarm_viewer([crossing()], "t", STATUSES))["swarms"]
    assert len(few["time"]) == 8 and min(few["gap"]) == pytest.approx(crossing().gap.min(), abs=1e-4)
    frame = few["contact"][0]
    touched = np.argmax(crossing().gap[:, 0] < 0.0) * 0.05
    assert few["time"][frame] <= touched < few["time"][frame + 1]


def test_no_swarms_a_single_one_and_too_large_a_page_are_clear_errors(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ValueError, match="no swarms"):
        swarm_viewer([], "t", STATUSES)
    with pytest.raises(ValueError, match=r"pass \[swarm\]"):
        swarm_figure(crossing(), "t")
    monkeypatch.setattr(page, "LARGEST_PAGE", 10_000)
    with pytest.raises(ValueError, match="show fewer swarms"):
        swarm_viewer([crossing()], "t", STATUSES)
    with pytest.raises(ValueError, match=r"gap has shape \(79, 6\)"):
        crossing(gap=np.zeros((79, 6)))
    with pytest.raises(ValueError, match="position must be finite"):
        crossing(position=np.full((81, 6, 3), np.nan))


def test_the_figure_shows_the_least_gap_of_all_and_the_share_at_their_goals():
    near, far = crossing(), crossing(gap=crossing().gap + 0.5)
    off = crossing(filtered=False)
    gap, arrived, above = swarm_figure([near, far], "t", [off]).axes[:3]
    lines = {line.get_label(): line.get_data() for line in gap.lines if line.get_gid() == "least gap"}
    np.testing.assert_allclose(lines["filter on"][1], near.gap.min(1))
    assert set(lines) == {"filter on", "filter off"} and gap.get_ylim()[0] < near.gap.min()
    shares = [line.get_ydata() for line in arrived.lines]
    assert len(shares) == 2 and shares[0][63] == 0.0 and shares[0][-1] == 1.0
    assert above.get_aspect() == 1.0
    with pytest.raises(ValueError, match="different numbers of steps"):
        swarm_figure([near, crossing(steps=40)], "t")


def test_the_density_adds_up_to_the_number_of_drones():
    found, x, y = density([crossing(), crossing()])
    area = np.diff(x)[:, None] * np.diff(y)[None]
    assert (found * area).sum() == pytest.approx(2 * 6 / 2, rel=1e-6)
    assert found.shape == (len(x) - 1, len(y) - 1) and (np.diff(x) > 0.0).all() and (np.diff(y) > 0.0).all()
    at, around = (np.searchsorted(edges, 0.0) for edges in (x, y))
    middle = found[at - 2 : at + 2, around - 2 : around + 2]
    assert middle.sum() > 6.0 * np.median(found[found > 0.0]), "all pass through the middle"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_a_browser_runs_the_page_and_tells_of_the_chosen_drone(tmp_path):
    flown = crossing()
    solid = crossing(obstacles=Obstacles(Capsules(*(np.zeros(s) for s in ((0, 3), 0, 0)), np.zeros(0, bool)), boxes()))
    result = browse(swarm_viewer([solid, flown], "t", STATUSES), tmp_path, "swarm=1&drone=0&frame=38&follow")
    assert "Uncaught" not in result.stderr and "Refused to" not in result.stderr
    assert '<span id="now">1.90 / 4.00 s</span>' in result.stdout
    apart = np.sort(np.linalg.norm(flown.position[38, 1:] - flown.position[38, 0], axis=-1))
    assert "<h2>Drone 1 of 6</h2>" in result.stdout
    assert f"perceives <b>{min(2, (apart < 0.7).sum())}</b> others within 0.70 m (at most 2)" in result.stdout
    assert f"gap to the nearest <b>{apart[0] - 2 * RADIUS:.3f} m</b>" in result.stdout
    collided = int((flown.gap[:39] < 0.0).any(0).sum())
    assert f"collided {collided}</span>" in result.stdout
