"""A results page that goes on from the measured policies of an earlier page, whose store is gone."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from projects.results_page.data import COLUMNS, read_archive
from projects.running.launch import launch
from projects.running.stage_runner import ROOT
from tests.projects.pages import cells, row_of, section, written
from tests.projects.recorded import evaluation, policy
from tests.projects.test_results_joint_training import TITLE, falling, trained


def gone(experiment: str) -> None:
    """No run of the experiment is there any more."""
    for run in MlflowClient().search_runs([experiment]):
        MlflowClient().delete_run(run.info.run_id)


def body(page: str) -> str:
    """The page below the line that says by which command and from which runs it was written."""
    return page.partition("\n## ")[2]


def kept_by(experiment: str, tmp_path: Path) -> tuple[str, Path]:
    """The page on the experiment and a copy of the file that lies beside it."""
    page = written(experiment, tmp_path)
    copy = tmp_path / "earlier.zip"
    copy.write_bytes((tmp_path / "pages" / "results.zip").read_bytes())
    return page, copy


def test_kept_policies_say_on_a_new_page_what_their_runs_said(experiment: str, tmp_path: Path) -> None:
    trained(experiment, 0, {"cbf_value": falling(0.1, 0.2), "cbf_gradient": falling(0.5, 0.25)}, {30: 0.5, 90: 1.0})
    nobody_arrived = cells(time_to_goal=float("nan"), relax_rate=1.23456789e-5)
    evaluation(experiment, policy(experiment, "default", 1), 0.9, cells=nobody_arrived)
    one_more = policy(experiment, "hybrid", 0)
    evaluation(experiment, one_more, 0.9, blend=0.5, cells=cells())
    first, earlier = kept_by(experiment, tmp_path)
    again = written(experiment, tmp_path, f"--runs={one_more}", f"--kept={earlier}")
    assert body(again) == body(first)
    default = [row for row in section(again, "Curricula") if row["curriculum"].startswith("`default")]
    assert [row["time to goal [s]"] for row in default] == ["–"], "nobody arrived"
    assert f"-P kept={earlier}" in again
    assert row_of(section(again, TITLE), curriculum="`mine, batch=none`")["success below threshold"] == "1 of 2"
    assert "counts, or else the newest" not in again, "an evaluation that is kept and in the store is one"


def test_seeds_from_two_stores_form_one_group(experiment: str, tmp_path: Path) -> None:
    evaluation(experiment, policy(experiment, "default", 0), 0.9, cells=cells(max_violation=0.2))
    _, earlier = kept_by(experiment, tmp_path)
    gone(experiment)
    here = policy(experiment, "default", 1)
    evaluation(experiment, here, 0.9, cells=cells(max_violation=0.4))
    page = written(experiment, tmp_path, f"--runs={here}", f"--kept={earlier}")
    row = row_of(section(page, "Curricula"), curriculum="`default`")
    # Student's t for one degree of freedom at 97.5 % is 12.706; the standard error of 0.2 and 0.4 is 0.1.
    assert (row["n"], row["largest violation [m/s]"]) == ("2", f"0.3 ± {12.706 * 0.1:.2g}")
    assert {row["seed"] for row in section(page, "Runs") if "seed" in row} == {"0", "1"}


@pytest.mark.slow
def test_the_barriers_error_is_shown_and_kept_and_unknown_where_one_seed_lacks_it(
    experiment: str, tmp_path: Path
) -> None:
    for name, errors in {"default": (0.01, 0.03), "hybrid": (0.01, None)}.items():
        for seed, error in enumerate(errors):
            trained = policy(experiment, name, seed)
            if error is not None:
                MlflowClient().log_metric(trained, "eval/boundary_error_mean", error)
            evaluation(experiment, trained, 0.9, cells=cells())
    _, earlier = kept_by(experiment, tmp_path)
    gone(experiment)
    evaluation(experiment, here := policy(experiment, "curriculum_a", 0), 0.9, cells=cells())
    rows = section(written(experiment, tmp_path, f"--runs={here}", f"--kept={earlier}"), "Curricula")
    # Student's t for one degree of freedom at 97.5 % is 12.706; the standard error of 1 and 3 cm is 1 cm.
    assert row_of(rows, curriculum="`default`")["barrier error [cm]"] == f"2 ± {12.706:.2g}"
    assert row_of(rows, curriculum="`hybrid`")["barrier error [cm]"] == "–"
    assert row_of(rows, curriculum="`curriculum_a`")["barrier error [cm]"] == "–"


@pytest.mark.slow
def test_one_name_with_other_settings_is_another_group(experiment: str, tmp_path: Path) -> None:
    evaluation(experiment, policy(experiment, "default", 0), 0.9, cells=cells())
    _, earlier = kept_by(experiment, tmp_path)
    gone(experiment)
    here = policy(experiment, "default", 1, batch=32)
    evaluation(experiment, here, 0.9, cells=cells())
    page = written(experiment, tmp_path, f"--runs={here}", f"--kept={earlier}")
    rows = [row for row in section(page, "Curricula") if row["curriculum"].startswith("`default")]
    assert [row["n"] for row in rows] == ["1", "1"] and rows[0]["curriculum"] != rows[1]["curriculum"]


@pytest.mark.slow
def test_a_setting_that_came_later_and_is_not_used_does_not_split_a_group(experiment: str, tmp_path: Path) -> None:
    stage = {"name": "a", "steps": 3}
    for seed, learning in enumerate(({}, {"barrier_updates": 1}, {"barrier_updates": 4})):
        here = policy(experiment, "default", seed)
        content = {"name": "default", "description": f"told {seed}", "learning": learning, "stages": [stage]}
        MlflowClient().log_text(here, json.dumps(content), "curriculum.json")
        evaluation(experiment, here, 0.9, cells=cells())
    _, kept = kept_by(experiment, tmp_path)
    older, newer, other = read_archive(kept).policies.sort_values("seed")["settings"]
    assert older == newer != other


@pytest.mark.slow
def test_evaluations_that_differ_are_named_though_one_store_is_gone(experiment: str, tmp_path: Path) -> None:
    evaluation(experiment, policy(experiment, "default", 0), 0.9, cells=cells(), rollouts=64)
    _, earlier = kept_by(experiment, tmp_path)
    gone(experiment)
    here = policy(experiment, "default", 1)
    evaluation(experiment, here, 0.9, cells=cells(), rollouts=32)
    page = written(experiment, tmp_path, f"--runs={here}", f"--kept={earlier}")
    assert "The evaluations differ in rollouts: 64; 32." in page


def test_an_evaluation_of_before_obstacles_could_be_displaced_does_not_differ_from_one_that_displaces_none(
    experiment: str, tmp_path: Path
) -> None:
    for seed, asked in enumerate(({}, {"augment": 0.0})):
        evaluation(experiment, policy(experiment, "default", seed), 0.9, cells=cells(), **asked)
    assert "The evaluations differ" not in written(experiment, tmp_path)


A_POLICY = f"{','.join(COLUMNS['policies'])}\n" + ",".join(
    "{" if name == "parameters" else "1" for name in COLUMNS["policies"]
)
"""A table of one policy whose parameters are damaged."""


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read (No such file or directory)"),
        ({}, "holds no results (There is no item named 'policies.csv' in the archive)"),
        ({"policies": "a,b\n1,2\n"}, "holds no results (policies: no column policy)"),
        ({"runs": ""}, "holds no results (No columns to parse from file)"),
        ({"policies": A_POLICY}, "holds no results (it is not valid JSON: "),
        ("no zip", "holds no results (File is not a zip file)"),
    ],
)
def test_a_file_that_holds_no_results_is_one_line_and_nothing_is_written(
    experiment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: dict[str, str] | str | None, told: str
) -> None:
    place, output = tmp_path / "kept.zip", tmp_path / "page.md"
    if isinstance(content, dict):
        files = {name: ",".join(columns) for name, columns in COLUMNS.items()} | content if content else {}
        with zipfile.ZipFile(place, "w") as file:
            for name, text in files.items():
                file.writestr(f"{name}.csv", text)
    elif content is not None:
        place.write_text(content)
    assert launch("results", [f"--kept={place}", f"--output={output}"]) == 1
    shown = capsys.readouterr().err
    assert told in shown and "kept = " in shown and shown.count("\n") == 1 and not output.exists()


def test_the_recorded_page_is_written_from_its_data_alone_and_its_data_again_to_the_byte(
    experiment: str, tmp_path: Path
) -> None:
    output = tmp_path / "results.md"
    assert launch("results", ["--kept=docs/results.zip", f"--output={output}"]) == 0
    assert body(output.read_text()) == body((ROOT / "docs" / "results.md").read_text())
    with zipfile.ZipFile(tmp_path / "results.zip") as file, zipfile.ZipFile(ROOT / "docs" / "results.zip") as recorded:
        assert file.namelist() == recorded.namelist()
        assert all(file.read(name) == recorded.read(name) for name in file.namelist())  # zlib's builds differ in bytes
        assert {one.compress_type for one in file.infolist()} == {zipfile.ZIP_DEFLATED}, "what every program unpacks"
    assert (tmp_path / "results_ablations.png").exists() and (ROOT / "docs" / "results.zip").stat().st_size < 120_000
