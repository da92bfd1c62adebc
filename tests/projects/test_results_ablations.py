"""The effects of ablations on the results page, against scipy's paired interval and runs of a real store."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
from matplotlib import image
from mlflow.tracking import MlflowClient
from scipy.stats import ttest_rel

from drone_cbf.reporting.trials import paired_difference
from projects.results_page.ablations import LARGER_IS_BETTER, NO_DIFFERENCE, TOO_FEW, effect_text
from tests.projects.pages import cells, row_of, section, written
from tests.projects.recorded import evaluation, policy


def seeds(*values: float) -> pd.Series:
    return pd.Series(values)


SAME = {title: seeds(1.0, 1.1, 0.9) for title in LARGER_IS_BETTER}


def effect(ours: dict[str, pd.Series], base: dict[str, pd.Series]) -> str:
    return effect_text({title: paired_difference(ours[title], base[title]) for title in ours})


@pytest.mark.parametrize(
    ("title", "value", "word"),
    [
        ("success", 2.0, "better"),
        ("success", 0.5, "worse"),
        ("largest violation [m/s]", 2.0, "worse"),
        ("relaxed steps", 0.5, "better"),
        ("time to goal [s]", 0.5, "better"),
        ("barrier error [cm]", 2.0, "worse"),
    ],
)
def test_a_change_is_better_or_worse_by_what_each_figure_asks_for(title: str, value: float, word: str) -> None:
    ours = seeds(value, value + 0.1, value - 0.2)
    told = effect(SAME | {title: ours}, SAME)
    paired = ttest_rel(ours, SAME[title]).confidence_interval(0.95)
    middle, half = (paired.high + paired.low) / 2.0, (paired.high - paired.low) / 2.0
    assert told == f"{word}: {title} {middle:+.2g} ± {half:.2g}"


def test_a_difference_within_the_spread_of_the_seeds_is_none() -> None:
    spread = seeds(0.8, 1.5, 1.3)  # the mean is 0.2 more; the differences are -0.2, 0.4 and 0.4
    paired = ttest_rel(spread, SAME["success"]).confidence_interval(0.95)
    assert paired.low < 0.0 < paired.high
    assert effect(SAME | {"success": spread}, SAME) == NO_DIFFERENCE


def test_what_the_seeds_share_cancels_out() -> None:
    """Seeds that differ by far more than the change does, which makes each of them worse by about as much."""
    apart = paired_difference(seeds(1.11, 5.10, 9.09), seeds(1.0, 5.0, 9.0))
    assert apart is not None and apart.mean == pytest.approx(0.1) and apart.excludes_zero


def test_only_common_seeds_are_compared_and_one_says_nothing() -> None:
    apart = paired_difference(pd.Series({0: 1.0, 3: 2.5, 4: 9.0}), pd.Series({3: 2.0, 0: 0.9, 7: 99.0}))
    low, high = ttest_rel([1.0, 2.5], [0.9, 2.0]).confidence_interval(0.95)
    assert (apart.mean - apart.half_width, apart.mean + apart.half_width, apart.count) == pytest.approx((low, high, 2))
    one = {title: pd.Series({0: 9.0}) for title in LARGER_IS_BETTER}
    other = {title: pd.Series({7: 9.0, 8: 9.0}) for title in LARGER_IS_BETTER}
    for ours, theirs in ((one, SAME), (SAME, one), (other, SAME)):
        assert effect(ours, theirs) == TOO_FEW


def test_a_figure_that_is_no_number_is_judged_neither_way() -> None:
    assert effect(SAME | {"time to goal [s]": seeds(math.nan, 9.0)}, SAME) == NO_DIFFERENCE


def test_the_page_judges_each_ablation_against_what_it_changes(experiment: str, tmp_path: Path) -> None:
    distance = {"barrier.kind": "distance_hocbf"}
    for seed in range(3):
        spread = 0.01 * seed

        def flown(name: str, settings: dict[str, object] | None = None, seed: int = seed, **figures: float) -> None:
            evaluation(experiment, policy(experiment, name, seed, settings=settings), 0.9, cells=cells(**figures))

        flown("default", max_violation=0.5 + spread)
        flown("ablations/lookahead_off", {"sensor.lookahead": 0.0}, max_violation=3.0 + 2.0 * spread, time_to_goal=3.5)
        flown("ablations/replay", max_violation=0.5 + 2.0 * spread)  # seed 0 no worse, seed 2 by 0.02
        flown("distance_hocbf", distance, max_violation=60.0 + spread, relax_rate=0.9)
        flown("ablations/distance_braking", max_violation=0.1 + spread, relax_rate=0.0)
    flown("ablations/ema", max_violation=9.0)
    page = written(experiment, tmp_path)
    rows = section(page, "Ablations")
    off = row_of(rows, curriculum="`ablations/lookahead_off`")
    # The differences of the seeds are 2.50, 2.51 and 2.52: standard deviation 0.01, Student's t at 97.5 % is 4.3027.
    half = 4.3027 * 0.01 / 3**0.5
    worse = ", ".join(f"largest violation{cells} [m/s] +2.5 ± {half:.2g}" for cells in ("", ", mean of cells"))
    assert off["effect"] == f"better: time to goal [s] -0.5 ± 0; worse: {worse}"
    assert off["compared with"] == "`default`"
    assert row_of(rows, curriculum="`ablations/replay`")["effect"] == NO_DIFFERENCE
    assert row_of(rows, curriculum="`ablations/ema`")["effect"] == TOO_FEW
    cured = row_of(rows, curriculum="`ablations/distance_braking`")
    assert cured["compared with"] == "`distance_hocbf`"
    assert cured["effect"] == "better: relaxed steps -0.9 ± 0", "violations of another barrier do not compare"
    assert row_of(rows, curriculum="`ablations/freeze`")["effect"] == "–", "not measured"
    assert "(results_ablations.png)" in page
    assert image.imread(tmp_path / "pages" / "results_ablations.png").shape[2] == 4
    (run,) = MlflowClient().search_runs([experiment], "tags.drone_cbf.stage = 'results'")
    assert "results_ablations.png" in {file.path for file in MlflowClient().list_artifacts(run.info.run_id)}


@pytest.mark.slow
def test_an_ablation_stands_beside_the_nearest_curriculum_below_it_that_was_measured(
    experiment: str, tmp_path: Path
) -> None:
    for name in ("default", "ablations/gates_open", "ablations/ema", "distance_hocbf", "ablations/distance_linear"):
        for seed in range(2):
            evaluation(experiment, policy(experiment, name, seed), 0.9, cells=cells())
    rows = section(written(experiment, tmp_path), "Ablations")
    beside = {"gates_open": "default", "ema": "ablations/gates_open", "distance_linear": "distance_hocbf"}
    found = {name: row_of(rows, curriculum=f"`ablations/{name}`")["compared with"].strip("`") for name in beside}
    assert found == beside


def test_without_a_second_seed_there_is_nothing_to_draw(experiment: str, tmp_path: Path) -> None:
    for name in ("default", "ablations/ema"):
        evaluation(experiment, policy(experiment, name, 0), 0.9, cells=cells())
    assert ".png" not in written(experiment, tmp_path)
    assert not list((tmp_path / "pages").glob("*.png"))
