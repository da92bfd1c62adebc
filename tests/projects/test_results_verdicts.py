"""What the results page says of each ablation, against scipy's Welch interval and runs of a real store."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from matplotlib import image
from scipy.stats import ttest_ind

from drone_cbf.reporting.trials import difference
from projects.results_verdicts import LARGER_IS_BETTER, NO_DIFFERENCE, TOO_FEW, differences, verdict
from tests.projects.pages import cells, row_of, section, written
from tests.projects.recorded import evaluation, policy

SAME = {title: [1.0, 1.1, 0.9] for title in LARGER_IS_BETTER}


@pytest.mark.parametrize(
    ("title", "value", "word"),
    [
        ("success", 2.0, "pays"),
        ("success", 0.5, "costs"),
        ("largest violation [m/s]", 2.0, "costs"),
        ("relaxed steps", 0.5, "pays"),
        ("time to goal [s]", 0.5, "pays"),
    ],
)
def test_a_change_pays_where_it_is_better_and_costs_where_it_is_worse(title: str, value: float, word: str) -> None:
    told = verdict(differences(SAME | {title: [value, value + 0.1, value - 0.1]}, SAME))
    welch = ttest_ind([value, value + 0.1, value - 0.1], SAME[title], equal_var=False).confidence_interval(0.95)
    middle, half = (welch.high + welch.low) / 2.0, (welch.high - welch.low) / 2.0
    assert told == f"{word}: {title} {middle:+.2g} ± {half:.2g}"


def test_a_difference_within_the_spread_of_the_seeds_is_none() -> None:
    spread = [0.8, 1.5, 1.3]  # the mean is 0.2 more; Welch's interval of that is 0.2 ± 0.8
    welch = ttest_ind(spread, SAME["success"], equal_var=False).confidence_interval(0.95)
    assert welch.low < 0.0 < welch.high
    assert verdict(differences(SAME | {"success": spread}, SAME)) == NO_DIFFERENCE


def test_one_seed_on_either_side_says_nothing() -> None:
    one = {title: [9.0] for title in LARGER_IS_BETTER}
    assert verdict(differences(one, SAME)) == verdict(differences(SAME, one)) == TOO_FEW


def test_a_figure_that_is_no_number_is_judged_neither_way() -> None:
    assert verdict(differences(SAME | {"time to goal [s]": [math.nan, 9.0]}, SAME)) == NO_DIFFERENCE


def test_welchs_interval_is_scipys() -> None:
    ours, theirs = [0.3, 0.8, 0.1, 0.4], [2.0, 2.9]
    found = difference(ours, theirs)
    welch = ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    assert found is not None and found.count == 2
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx((welch.low, welch.high))
    assert difference([1.0, 1.0], [1.0, 1.0]).half_width == 0.0


def test_the_page_judges_each_ablation_against_what_it_changes(experiment: str, tmp_path: Path) -> None:
    distance = {"barrier.kind": "distance_hocbf"}
    for seed in range(3):
        spread = 0.01 * seed

        def flown(name: str, settings: dict[str, object] | None = None, seed: int = seed, **figures: float) -> None:
            evaluation(experiment, policy(experiment, name, seed, settings=settings), 0.9, cells=cells(**figures))

        flown("default", max_violation=0.5 + spread)
        flown("ablations/lookahead_off", {"sensor.lookahead": 0.0}, max_violation=3.0 + spread, time_to_goal=3.5)
        flown("ablations/replay", max_violation=0.5 + 2.0 * spread)
        flown("distance_hocbf", distance, max_violation=60.0 + spread, relax_rate=0.9)
        flown("ablations/distance_braking", max_violation=0.1 + spread, relax_rate=0.0)
    flown("ablations/ema", max_violation=9.0)
    page = written(experiment, tmp_path)
    rows = section(page, "Ablations")
    off = row_of(rows, curriculum="`ablations/lookahead_off`")
    # Both standard deviations are 0.01, so 4 degrees of freedom: Student's t at 97.5 % is 2.7764.
    half = 2.7764 * (2.0 * 0.01**2 / 3.0) ** 0.5
    assert off["the change"] == f"pays: time to goal [s] -0.5 ± 0; costs: largest violation [m/s] +2.5 ± {half:.2g}"
    assert off["against"] == "`default`"
    assert row_of(rows, curriculum="`ablations/replay`")["the change"] == NO_DIFFERENCE
    assert row_of(rows, curriculum="`ablations/ema`")["the change"] == TOO_FEW
    cured = row_of(rows, curriculum="`ablations/distance_braking`")
    assert cured["against"] == "`distance_hocbf`"
    assert cured["the change"] == "pays: relaxed steps -0.9 ± 0", "violations of another barrier do not compare"
    assert row_of(rows, curriculum="`ablations/freeze`")["the change"] == "–", "not measured"
    assert "(results_ablations.png)" in page
    assert image.imread(tmp_path / "pages" / "results_ablations.png").shape[2] == 4


def test_without_a_second_seed_there_is_nothing_to_draw(experiment: str, tmp_path: Path) -> None:
    for name in ("default", "ablations/ema"):
        evaluation(experiment, policy(experiment, name, 0), 0.9, cells=cells())
    assert ".png" not in written(experiment, tmp_path)
    assert not list((tmp_path / "pages").glob("*.png"))
