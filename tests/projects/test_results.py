"""The results page, written from recorded runs of a real store."""

from __future__ import annotations

import errno
import math
import os
import re
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from scipy.stats import beta

from projects.inputs.curriculum_files import available
from projects.running.launch import launch
from projects.running.stage_runner import ROOT
from tests.projects.pages import FOREST, PLACES, cells, row_of, section, written
from tests.projects.recorded import evaluation, policy, record

ELSEWHERE = ("fast", "lidar", "depth", "agile", "racing", "swarm")
"""Curricula without a row: too short, for other sensors, other speeds, or several drones."""


def test_the_benchmark_holds_the_worst_cell_and_seed_against_each_target(experiment: str, tmp_path: Path) -> None:
    noisy = ("random_cloud", 0.05, "random")
    spoiled = ({noisy: {"max_violation": 1.3, "collisions": 2.0, "success_rate": 0.994}}, {}, {})
    for seed, changed in enumerate(spoiled):
        evaluation(experiment, policy(experiment, "default", seed), 0.9, cells=cells(changed))
    rows = section(written(experiment, tmp_path), "The benchmark")
    success = row_of(rows, metric="success rate")
    assert (success["ours, worst"], success["met"]) == ("99.40 %", "**no**")
    assert "78–86 %" in success["original's best"], "the original's figure beside ours"
    assert row_of(rows, metric="largest violation at zero noise [m/s]")["met"] == "yes"
    largest = row_of(rows, metric="largest violation at every noise [m/s]")
    assert (largest["ours, worst"], largest["met"], largest["original's best"]) == (
        "1.3",
        "**no**",
        "24 fixed, 69 random",
    )
    assert row_of(rows, metric="relaxed steps")["met"] == "yes"
    assert row_of(rows, metric="final distance, mean, at zero noise [cm]")["ours, worst"] == "1"
    flights = 3 * 18 * 1024
    bound = beta.ppf(0.99, 2 + 1, flights / 3 - 2)  # Clopper and Pearson (1934), one-sided; of the worst seed
    told = row_of(rows, metric="collisions")
    assert (
        told["ours, worst"].startswith(f"2 in {flights:,}; rate of each policy below {bound:.2g} (99 %")
        and told["met"] == "**no**"
    )
    cell = row_of(rows, **{"scene": "`random_cloud`", "noise [m]": "0.05", "goals": "random"})
    assert (cell["seeds"], cell["success"], cell["collisions"]) == ("3", "99.80 % / 99.40 %", "2 in 3,072")
    assert cell["violation, largest [m/s]"] == "0.44 / 1.3" and cell["99 % bound"] == f"{beta.ppf(0.99, 3, 1022):.2g}"
    assert len([row for row in rows if row.get("scene")]) == 27
    forest = [row for row in rows if row.get("scene") == "`forest`"]
    assert {(row["seeds"], row["success"]) for row in forest} == {("0", "not measured")} and len(forest) == 9
    assert success["met in the forest"] == "not measured"


@pytest.mark.slow
def test_the_forest_is_held_against_the_targets_beside_the_18_cells_of_the_original(
    experiment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    worse = {("forest", 0.05, "random"): {"success_rate": 0.98, "max_violation": 2.5, "collisions": 1.0}}
    evaluation(experiment, policy(experiment, "default", 0), 0.9, cells=cells(worse, places=PLACES + FOREST))
    evaluation(experiment, policy(experiment, "default", 1), 0.9, cells=cells(places=PLACES + FOREST[:3]))
    page = written(experiment, tmp_path)
    rows = section(page, "The benchmark")
    success = row_of(rows, metric="success rate")
    assert [success[name] for name in ("ours, worst", "met", "forest, worst", "met in the forest")] == [
        "100 %", "yes", "98.00 %", "**no**",
    ]  # fmt: skip
    assert row_of(rows, metric="relaxed steps")["met in the forest"] == "in the 12 of 18 cells measured"
    assert row_of(rows, metric="collisions")["ours, worst"].startswith(f"0 in {2 * 18 * 1024:,};")
    assert row_of(rows, metric="collisions")["forest, worst"].startswith(f"1 in {12 * 1024:,};")
    cell = row_of(rows, **{"scene": "`forest`", "noise [m]": "0.05", "goals": "random"})
    assert (cell["seeds"], cell["success"], cell["violation, largest [m/s]"]) == ("1", "98.00 % / 98.00 %", "2.5 / 2.5")
    default = row_of(section(page, "Curricula"), curriculum="`default`")
    assert default["success"] == "1 ± 0" and default["success in the forest"].startswith("0.99 ± ")
    shown = capsys.readouterr().out
    assert re.search(
        rf"^default, blend 1 +0.99 ± \S+ +1 in {(2 * 18 + 12) * 1024:,} +1.255 ± \S+ +0, 1$", shown, re.MULTILINE
    )


def test_what_was_not_flown_is_not_measured_and_meets_nothing(experiment: str, tmp_path: Path) -> None:
    evaluation(experiment, policy(experiment, "default", 0), 0.9, cells=cells(places=PLACES[:4], rollouts=64.0))
    rows = section(written(experiment, tmp_path), "The benchmark")
    assert row_of(rows, metric="success rate")["met"] == "in the 4 of 18 cells measured"
    assert row_of(rows, metric="flights of a policy in a cell")["met"] == "**no**"
    assert row_of(rows, metric="collisions")["met"] == "**no**", "256 flights are not 10,000"
    missing = [row for row in rows if row.get("success") == "not measured"]
    assert len(missing) == 14 + len(FOREST) and {row["seeds"] for row in missing} == {"0"}


def test_a_store_without_evaluations_gives_a_page_that_says_so(experiment: str, tmp_path: Path) -> None:
    lonely = policy(experiment, "default", 0)
    page = written(experiment, tmp_path)
    assert "None of these runs has a finished evaluation." in page and lonely not in page
    rows = section(page, "The benchmark")
    assert {row["met"] for row in rows if "met" in row} == {"not measured"}
    assert {row["met in the forest"] for row in rows if "met" in row} == {"not measured", "–"}, "no training there"
    assert {row["success"] for row in section(page, "Curricula")} == {"not measured"}
    assert {row["success"] for row in section(page, "Temporal gradient decay by horizon")} == {"not measured"}


@pytest.mark.slow
def test_every_shipped_curriculum_has_its_row_with_interval_over_seeds(experiment: str, tmp_path: Path) -> None:
    for seed, (success, relaxed) in enumerate(((1.0, 0.8), (0.98, 0.9), (0.99, 0.85))):
        trained = policy(experiment, "distance_hocbf", seed, settings={"barrier.kind": "distance_hocbf"})
        evaluation(
            experiment,
            trained,
            0.9,
            blend=0.0,
            cells=cells(success_rate=success, relax_rate=relaxed, intervention_rate=1.0),
        )
    more = "fixed_ring,random_cloud,forest"
    evaluation(experiment, policy(experiment, "default", 0), 0.9, cells=cells(collisions=1.0), scenarios=more)
    page = written(experiment, tmp_path)
    assert "differ in" not in page, "the tables take the same cells of both"
    rows = section(page, "Curricula")
    assert {row["curriculum"].strip("`") for row in rows} == {
        name for name in available() if not name.startswith("ablations/") and name not in ELSEWHERE
    }
    original = row_of(rows, curriculum="`distance_hocbf`")
    # Student's t for 2 degrees of freedom at 97.5 % is 4.3027; the standard deviation is 0.01.
    assert original["success"] == f"0.99 ± {4.3027 * 0.01 / 3**0.5:.2g}" and original["blend"] == "0"
    assert original["relaxed steps"] == f"0.85 ± {4.3027 * 0.05 / 3**0.5:.2g}"
    assert original["relaxed of those changed"] == f"0.85 ± {4.3027 * 0.05 / 3**0.5:.3g}"
    default = row_of(rows, curriculum="`default`")
    assert (default["success"], default["collisions"]) == ("1", f"18 in {18 * 1024:,}")
    assert default["time to goal [s]"] == "4" and default["steps changed"] == "0.05"
    beside = section(page, "The original's barrier beside the braking barrier")
    assert [row["curriculum"].strip("`") for row in beside if row["n"] != "0"] == ["distance_hocbf", "default"]


def test_the_barriers_are_shown_with_the_originals_figures_and_their_violations_scene_by_scene(
    experiment: str, tmp_path: Path
) -> None:
    for seed, (ring, cloud) in enumerate(((20.0, 60.0), (24.0, 66.0))):
        worse = {(scene, 0.05, "random"): {"max_violation": value}
                 for scene, value in (("fixed_ring", ring), ("random_cloud", cloud))}  # fmt: skip
        evaluation(experiment, policy(experiment, "distance_hocbf", seed), 0.9, blend=0.0, cells=cells(worse))
    page = written(experiment, tmp_path)
    assert "slack on 0.82–0.95 of the steps and largest violations of 24 (fixed ring) and 69 (random cloud)" in page
    rows = section(page, "The original's barrier beside the braking barrier")
    original = row_of(rows, curriculum="`distance_hocbf`")
    # Student's t for one degree of freedom at 97.5 % is 12.706; the standard errors are 2 and 3.
    assert original["violation in fixed_ring"] == f"22 ± {12.706 * 2.0:.3g}"
    assert original["violation in random_cloud"] == f"63 ± {12.706 * 3.0:.3g}"
    assert row_of(rows, curriculum="`ablations/distance_braking`")["violation in fixed_ring"] == "–"


@pytest.mark.slow
def test_ablations_stand_beside_default_and_their_settings_do_not_split_the_groups(
    experiment: str, tmp_path: Path
) -> None:
    for seed in (0, 1):
        evaluation(experiment, policy(experiment, "default", seed), 0.9, cells=cells())
        off = policy(experiment, "ablations/lookahead_off", seed, settings={"sensor.lookahead": 0.0})
        evaluation(experiment, off, 0.9, cells=cells(max_violation=3.0))
        slow = policy(experiment, "ablations/decay_1_5_horizon_60", seed, settings={"physics.gradient_decay": 1.5})
        evaluation(experiment, slow, 0.9, cells=cells(success_rate=0.75))
    page = written(experiment, tmp_path)
    rows = section(page, "Ablations")
    assert rows[0]["change"] == "none" and (rows[0]["curriculum"], rows[0]["n"]) == ("`default`", "2")
    off_row = row_of(rows, curriculum="`ablations/lookahead_off`")
    assert (off_row["n"], off_row["largest violation [m/s]"]) == ("2", "3 ± 0")
    assert off_row["change"] == "nodes are ranked by distance alone"
    assert row_of(rows, curriculum="`ablations/replay`")["success"] == "not measured"
    assert not any("decay_" in row["curriculum"] for row in rows), "they have a table of their own"


@pytest.mark.slow
def test_gradient_decay_in_joint_training_is_shown_by_horizon(experiment: str, tmp_path: Path) -> None:
    for seed, success in enumerate((0.75, 0.77)):
        decay = {"physics.gradient_decay": 1.5}
        trained = policy(experiment, "ablations/decay_1_5_horizon_60", seed, settings=decay)
        evaluation(experiment, trained, 0.9, rollouts=32, cells=cells(success_rate=success, rollouts=32.0))
    evaluation(experiment, policy(experiment, "default", 0), 0.9, cells=cells())
    page = written(experiment, tmp_path)
    assert "differ in rollouts" not in page, "they stand in no table with others, and theirs says how many flew"
    rows = section(page, "Temporal gradient decay by horizon")
    jointly = rows[-12:]
    assert [(row["decay"], row["horizon"]) for row in jointly] == [
        (decay, horizon) for decay in ("0", "1.5", "2.5", "5") for horizon in ("60", "180", "400")
    ]
    measured = row_of(jointly, decay="1.5", horizon="60")
    # Student's t for one degree of freedom at 97.5 % is 12.706; the standard error is 0.01.
    assert (measured["n"], measured["success"]) == ("2", f"0.76 ± {12.706 * 0.01:.2g}")
    assert (measured["time to goal [s]"], measured["flights in a cell"]) == ("4 ± 0", "32")
    assert [row["success"] for row in jointly].count("not measured") == 11


def test_gradient_decay_from_scratch_is_read_off_evaluated_efficiency_runs_scene_by_scene(
    experiment: str, tmp_path: Path
) -> None:
    trained = record(experiment, "efficiency", {"seed": 0, "horizon": 60})
    MlflowClient().set_terminated(trained)
    flown = cells(places=PLACES[:2] + PLACES[9:12])
    none_arrives = {"success_rate": 0.0, "time_to_goal": math.nan}
    flown[0]["time_to_goal"] = flown[1]["time_to_goal"] = math.nan  # nor in one cell of the ring
    in_the_cloud = [{**row, **none_arrives} if row["scene"] == "random_cloud" else row for row in flown]
    evaluation(experiment, trained, 0.9, cells=in_the_cloud)
    rows = section(written(experiment, tmp_path), "Temporal gradient decay by horizon")[:12]
    measured = row_of(rows, decay="2.5", horizon="60")
    assert (measured["success in fixed_ring"], measured["success in random_cloud"]) == ("0.5", "0"), "filter off"
    assert (measured["time in fixed_ring [s]"], measured["time in random_cloud [s]"]) == ("4", "–"), "none arrived"
    assert row_of(rows, decay="2.5", horizon="180")["success"] == "not measured"


def test_the_evaluation_with_the_most_flights_counts_and_other_blends_are_rows_of_their_own(
    experiment: str, tmp_path: Path
) -> None:
    trained = policy(experiment, "default", 0)
    much = evaluation(experiment, trained, 0.9, cells=cells())
    little = evaluation(experiment, trained, 0.9, cells=cells(places=PLACES[:3], success_rate=0.1))
    half = evaluation(experiment, trained, 0.9, blend=0.5, cells=cells(success_rate=0.9))
    page = written(experiment, tmp_path)
    assert f"not {little}." in page and row_of(section(page, "The benchmark"), metric="success rate")["met"] == "yes"
    assert {row["blend"]: row["success"] for row in section(page, "Curricula") if row["curriculum"] == "`default`"} == {
        "1": "1", "0.5": "0.9",
    }  # fmt: skip
    runs = section(page, "Runs")
    assert {row["evaluated by"].strip("`") for row in runs} == {much, half}


def test_the_page_names_runs_commits_and_versions_and_the_command_that_repeats_them(
    experiment: str, tmp_path: Path
) -> None:
    before = record(experiment, "pretrain_cbf", {"seed": 0})
    MlflowClient().set_terminated(before)
    trained = policy(experiment, "default", 0)
    MlflowClient().set_tag(trained, "drone_cbf.parent_run", before)
    measured = evaluation(experiment, trained, 0.9, cells=cells())
    page = written(experiment, tmp_path, f"--runs={trained}")
    policy_row, earlier = section(page, "Runs")
    assert [policy_row[name].strip("`") for name in ("trained by", "evaluated by")] == [trained, measured]
    assert (earlier["stage"], earlier["run"]) == ("pretrain_cbf", f"`{before}`")
    assert "`mlflow run . -e reproduce -P run=<ID>`" in page
    assert "`0123456789`" in page and "jax 0.10.2" in page and "1 x cpu (cpu)" in page
    assert f"mlflow run . -e results -P runs={trained} -P output={tmp_path}/pages/results.md" in page


def test_without_an_output_the_page_is_an_artifact_and_no_file_is_touched(
    experiment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = {file: file.stat().st_mtime_ns for file in (ROOT / "docs").iterdir()}
    evaluation(experiment, trained := policy(experiment, "default", 0), 0.9, cells=cells())
    assert launch("results", [f"--runs={trained}"]) == 0
    assert {file: file.stat().st_mtime_ns for file in (ROOT / "docs").iterdir()} == recorded
    run = MlflowClient().search_runs([experiment], "tags.drone_cbf.stage = 'results'", max_results=1)[0]
    assert {"results.md", "results.zip"} <= {file.path for file in MlflowClient().list_artifacts(run.info.run_id)}
    assert f"page: artifact results.md of run {run.info.run_id}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ("  ", "is blank"),
        ("nowhere/page.md", "lies in a folder that does not exist; create it (mkdir -p"),
        ("../page.md", "lies outside the project; give an absolute path"),
        ("{folder}/nowhere/page.md", "lies in a folder that does not exist"),
        ("{folder}/file/page.md", "lies in a folder that does not exist"),
        ("{folder}/file", "is not a Markdown file"),
        ("{folder}/folder.md", "folder.md, which is a folder; name another file"),
        ("{folder}/page.md", "page.zip, which is a folder; name another file"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_in_one_line_before_anything_is_read(
    experiment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], output: str, told: str
) -> None:
    (tmp_path / "file").write_text("")
    for name in ("folder.md", "page.zip"):
        (tmp_path / name).mkdir()
    assert launch("results", [f"--experiment={experiment}", f"--output={output.format(folder=tmp_path)}"]) == 1
    shown = capsys.readouterr()
    assert told in shown.err and shown.err.startswith("results failed: output = ") and shown.err.count("\n") == 1
    assert "reading" not in shown.out


def test_where_a_file_cannot_be_written_the_page_stays_what_it_was(
    experiment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "page.md").write_text("of before")
    write = Path.write_bytes

    def full(place: Path, content: bytes) -> int:
        if place.suffix == ".zip":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(place, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    assert launch("results", [f"--runs={policy(experiment, 'default', 0)}", f"--output={tmp_path}/page.md"]) == 1
    shown = capsys.readouterr().err
    assert "cannot be written (No space left on device)" in shown and shown.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["page.md"]
    assert (tmp_path / "page.md").read_text() == "of before"
