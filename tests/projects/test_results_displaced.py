"""Evaluations in displaced scenes on the results page: apart from the others, and compared among themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy.stats import ttest_rel

from tests.projects.pages import cells, row_of, section, written
from tests.projects.recorded import evaluation, policy

TITLE = "Displaced scenes"
OFF = "ablations/augment_off"
VIOLATIONS = {"default": (0.10, 0.12, 0.17), OFF: (0.31, 0.34, 0.36)}
"""In displaced scenes, by seed [m/s]."""


def flown(experiment: str, augment: float = 0.3) -> None:
    for name, violations in VIOLATIONS.items():
        for seed, violation in enumerate(violations):
            trained = policy(experiment, name, seed)
            evaluation(experiment, trained, 1.0, cells=cells(max_violation=0.02))
            evaluation(experiment, trained, 1.0, cells=cells(max_violation=violation), augment=augment)


def test_policies_in_displaced_scenes_are_judged_at_the_same_seed(experiment: str, tmp_path: Path) -> None:
    flown(experiment)
    rows = section(written(experiment, tmp_path), TITLE)
    assert [(row["augment"], row["curriculum"], row["n"]) for row in rows] == [
        ("0.3", "`default`", "3"),
        ("0.3", f"`{OFF}`", "3"),
    ]
    paired = ttest_rel(VIOLATIONS[OFF], VIOLATIONS["default"]).confidence_interval(0.95)
    middle, half = 0.5 * (paired.high + paired.low), 0.5 * (paired.high - paired.low)
    assert f"largest violation [m/s] {middle:+.2g} ± {half:.2g}" in row_of(rows, curriculum=f"`{OFF}`")["effect"]


@pytest.mark.slow
def test_a_change_stands_beside_the_nearest_curriculum_below_it_that_was_flown_so(
    experiment: str, tmp_path: Path
) -> None:
    evaluation(experiment, policy(experiment, "default", 0), 1.0, cells=cells())
    for name in (OFF, "ablations/gates_open"):
        for seed in range(2):
            evaluation(experiment, policy(experiment, name, seed), 1.0, cells=cells(), augment=0.3)
    whole, changed = section(written(experiment, tmp_path), TITLE)
    assert (whole["change"], whole["curriculum"], whole["n"]) == ("none", "`ablations/gates_open`", "2")
    assert (changed["curriculum"], changed["compared with"]) == (f"`{OFF}`", "`ablations/gates_open`")


@pytest.mark.slow
def test_the_other_sections_speak_of_the_scenes_as_drawn_whichever_was_evaluated_last(
    experiment: str, tmp_path: Path
) -> None:
    flown(experiment)
    page = written(experiment, tmp_path)
    assert row_of(section(page, "Curricula"), curriculum="`default`")["largest violation [m/s]"] == "0.02 ± 0"
    assert row_of(section(page, "Ablations"), curriculum=f"`{OFF}`")["effect"] == "no difference found"
    assert "of the evaluations" not in page.lower(), "both count"
    assert len({row["evaluated by"] for row in section(page, "Runs")}) == 12


@pytest.mark.slow
def test_each_displacement_has_a_table_and_without_any_there_is_no_section(experiment: str, tmp_path: Path) -> None:
    trained = policy(experiment, "default", 0)
    plain = evaluation(experiment, trained, 1.0, cells=cells())
    assert TITLE not in written(experiment, tmp_path)
    for augment in (1.0, 0.3):
        evaluation(experiment, trained, 1.0, cells=cells(), augment=augment)
    first = written(experiment, tmp_path)
    assert [row["augment"] for row in section(first, TITLE)] == ["0.3", "1"]
    kept = (tmp_path / "pages" / "results.zip").rename(tmp_path / "earlier.zip")
    again = written(experiment, tmp_path, f"--runs={plain}", f"--kept={kept}")
    assert section(again, TITLE) == section(first, TITLE)
