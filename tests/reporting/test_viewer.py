import dataclasses
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from drone_cbf.reporting.pages import viewer
from drone_cbf.reporting.pages.viewer import MOST_FRAMES, ShownFlight, frame_steps, interactive_viewer
from drone_cbf.reporting.pages.viewer_scene import NEARBY

from .conftest import forest, spheres, surface


class Page(HTMLParser):
    """Tags with their attributes, and the text of each script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, text):
        if self.tags and self.tags[-1][0] == "script" and self.scripts:
            self.scripts[-1] += text


def embedded(text: str) -> dict:
    return json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.DOTALL)[1])


def shown_flight(flight) -> dict:
    return embedded(interactive_viewer([ShownFlight(flight)], "t"))["entries"][0]["flights"][0]


def test_the_page_needs_no_network_and_forbids_it(make_flight):
    text = interactive_viewer([ShownFlight(make_flight(steps=5))], "t")
    page = Page(text)
    assert len(page.scripts) == 3 and len(page.scripts[0]) > 3_000_000, "plotly.js is inside"
    assert not [attrs for _, attrs in page.tags if {"src", "href"} & set(attrs)]
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'") and "http" not in policy
    assert len(text.encode()) < viewer.LARGEST_PAGE


def test_there_is_one_frame_per_state_with_the_recorded_values(make_flight):
    flight = make_flight(steps=50)
    shown = shown_flight(flight)
    assert np.allclose(shown["time"], flight.times) and np.allclose(
        np.transpose(shown["position"]), flight.position, atol=1e-4
    )
    for name, values in (
        ("clearance", flight.clearance),
        ("barrier", flight.barrier),
        ("analytic", flight.analytic_barrier),
    ):
        assert np.allclose(shown[name], np.append(values, values[-1]), atol=1e-4), name
    assert np.allclose(shown["speed"], flight.speed, atol=1e-4)
    assert shown["acted"][:-1] == flight.acted.astype(int).tolist()


def test_a_long_flight_is_thinned_evenly_and_keeps_its_last_state_and_its_contact(make_flight):
    steps = 2 * MOST_FRAMES + 7
    flight = make_flight(steps=3)
    long = {name: np.resize(getattr(flight, name), (steps, 3)) for name in ("command", "nominal")}
    long |= {name: np.ones(steps) for name in ("barrier", "analytic_barrier", "slack", "status")}
    touch = np.where(np.arange(steps) == 700, -0.1, 1.0)
    path = np.linspace(0, 1, steps + 1)[:, None] * np.ones(3)
    flight = dataclasses.replace(flight, position=path, velocity=path, clearance=touch, collided=True, **long)
    shown = shown_flight(flight)
    assert len(shown["time"]) == len(frame_steps(steps)) <= MOST_FRAMES + 1
    assert np.isclose(shown["time"][-1], steps * flight.time_step)
    assert min(shown["clearance"]) == -0.1, "the step of contact is between two frames"


@pytest.mark.parametrize("steps", [1, 2, MOST_FRAMES - 1, MOST_FRAMES, MOST_FRAMES + 1, 3 * MOST_FRAMES + 1])
def test_frames_start_at_zero_end_at_the_last_state_and_never_repeat(steps):
    shown = frame_steps(steps)
    assert shown[0] == 0 and shown[-1] == steps and (np.diff(shown) > 0).all()
    assert len(shown) <= MOST_FRAMES + 1


def test_the_view_holds_paths_goal_and_every_obstacle_near_a_path_as_a_whole(make_flight):
    scene = spheres(3)
    on, off = make_flight(obstacles=scene, steps=60), make_flight(obstacles=scene, steps=60, filtered=False)
    entry = embedded(interactive_viewer([ShownFlight(on, off)], "t"))["entries"][0]
    low, high = np.transpose(entry["box"])
    for flight in (on, off):
        assert (low <= np.vstack([flight.position, flight.goal])).all()
        assert (np.vstack([flight.position, flight.goal]) <= high).all()
    table = scene.capsules.table()
    near = {
        index
        for index in range(len(table))
        if min(surface(scene, point)[0][index] for point in [*on.position, *off.position, on.goal]) < NEARBY
    }
    drawn = {int(np.argmin(np.abs(table[:, :2] - obstacle[:2]).sum(1))) for obstacle in entry["obstacles"]}
    assert near and near <= drawn and len(drawn) < len(table), "those far away would only make the flight small"
    for index in drawn:
        centre, radius = table[index, :3], table[index, 3]
        assert (low <= centre - radius + 1e-3).all() and (centre + radius - 1e-3 <= high).all()


def test_trunks_are_cut_to_the_flown_heights(make_flight):
    flight = make_flight(obstacles=forest(), start=(-9, 0, 1.5))
    entry = embedded(interactive_viewer([ShownFlight(flight)], "t"))["entries"][0]
    heights = np.concatenate([[row[0] for row in obstacle[2]] for obstacle in entry["obstacles"]])
    assert entry["obstacles"]
    assert heights.min() >= entry["box"][2][0] and heights.max() <= entry["box"][2][1] < 4.0


def test_a_flight_and_the_one_without_the_filter_are_one_entry_and_must_belong_together(make_flight):
    on, off = make_flight(steps=6), make_flight(steps=6, filtered=False)
    data = embedded(interactive_viewer([ShownFlight(on, off, "group")], "t", ["nominal"]))
    (entry,) = data["entries"]
    assert [flight["filtered"] for flight in entry["flights"]] == [True, False]
    assert entry["group"] == "group" and data["statuses"] == ["nominal"]
    with pytest.raises(ValueError, match="must be filtered"):
        ShownFlight(off, on)
    for other in (make_flight(steps=7, filtered=False), make_flight(steps=6, filtered=False, obstacles=spheres(9))):
        with pytest.raises(ValueError, match="same obstacles and the same number of steps"):
            ShownFlight(on, other)


def test_missing_values_become_gaps_and_hostile_names_stay_text(make_flight):
    flight = make_flight(steps=3, name="</script><b>{{ plotly }}")
    flight = dataclasses.replace(flight, barrier=np.array([np.nan, 1.0, 2.0]), clearance=np.full(3, np.inf))
    text = interactive_viewer([ShownFlight(flight)], "a <b> & c")
    (entry,) = embedded(text)["entries"]
    (shown,) = entry["flights"]
    assert entry["name"] == "</script><b>{{ plotly }}" and shown["barrier"] == [None, 1.0, 2.0, 2.0]
    assert shown["clearance"] == [None] * 4 and "<h1>a &lt;b&gt; &amp; c</h1>" in text


def test_no_flights_and_too_large_a_page_are_clear_errors(make_flight, monkeypatch):
    with pytest.raises(ValueError, match="no flights"):
        interactive_viewer([], "t")
    monkeypatch.setattr(viewer, "LARGEST_PAGE", 1_000_000)
    with pytest.raises(ValueError, match="show fewer flights"):
        interactive_viewer([ShownFlight(make_flight(steps=3))], "t")


def needs_browser(test):
    """Marks a slow test that is left out where chromium is not installed."""
    return pytest.mark.slow(pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")(test))


def browse(page: str, folder, fragment: str) -> subprocess.CompletedProcess:
    """Opens the page in a browser: its elements afterwards and what it logged."""
    (folder / "view.html").write_text(page)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--dump-dom"]
    flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--timeout=4000"]
    flags += ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--enable-logging=stderr"]
    command = ["chromium", *flags, f"--user-data-dir={folder}/profile", f"file://{folder}/view.html#{fragment}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)


@needs_browser
def test_a_browser_runs_the_page_and_shows_the_chosen_frame(make_flight, tmp_path):
    pair = make_flight(name="second", steps=30), make_flight(name="second", steps=30, filtered=False)
    entries = [ShownFlight(make_flight(name="first", steps=20)), ShownFlight(*pair, "others")]
    result = browse(interactive_viewer(entries, "t"), tmp_path, "flight=1&frame=7")
    assert "Uncaught" not in result.stderr and "Refused to" not in result.stderr
    assert '<span id="now">0.35 / 1.50 s</span>' in result.stdout
    assert re.findall(r'<optgroup label="(\w+)"><option value="[01]">(\w+) \(', result.stdout) == [
        ("Flights", "first"),
        ("others", "second"),
    ]
    assert result.stdout.count("main-svg") >= 6, "all three curves are drawn"
