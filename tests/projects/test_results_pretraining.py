"""Ways of pretraining on the results page: against scipy's paired interval, from runs of a real store."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow.entities import Metric
from mlflow.tracking import MlflowClient
from scipy.stats import ttest_rel

from drone_cbf.config import SystemConfig
from projects.cli.stage_parameters import EfficiencyParameters, PretrainParameters
from tests.projects.pages import cells, row_of, section, written
from tests.projects.recorded import evaluation, policy, record

TITLE = "Pretraining"
GAPS = ("open:0.5", "gap:0.5")


def pretrained(
    experiment: str, seed: int, errors: dict[str, float], system: SystemConfig = SystemConfig(), **given: object
) -> str:
    """An evaluated barrier with its errors [m] on flights (``""``) and strata; ``given``: its settings."""
    before = record(experiment, "efficiency", EfficiencyParameters(seed=seed).model_dump())
    parameters = PretrainParameters(seed=seed, parent_run=before, **given).model_dump()
    trained = record(experiment, "pretrain_cbf", parameters, parent=before, system=system)
    told = {f"final/{kind}/boundary_error_mean".replace("//", "/"): value for kind, value in errors.items()}
    told["final/margin"] = 0.05
    client = MlflowClient()
    client.log_batch(trained, metrics=[Metric(name, value, 0, 0) for name, value in told.items()])
    for run in (before, trained):
        client.set_terminated(run)
    evaluation(experiment, trained, 0.9, cells=cells(max_violation=1.0))
    return trained


def test_other_states_to_learn_from_are_judged_against_the_plain_ones_at_the_same_seed(
    experiment: str, tmp_path: Path
) -> None:
    plain, gaps = (0.010, 0.012, 0.014), (0.013, 0.014, 0.018)
    for seed in range(3):
        pretrained(experiment, seed, {"": plain[seed], "gap": 0.03})
        pretrained(experiment, seed, {"": gaps[seed], "gap": 0.01}, strata=GAPS)
    rows = section(written(experiment, tmp_path), TITLE)
    assert [row["change"] for row in rows] == ["none", "`strata=open:0.5,gap:0.5`"]
    first, other = rows
    assert {row["flights in a cell"] for row in rows} == {"1024"}
    assert first["n"] == "3" and first["error on flights [cm]"].startswith("1.2 ± ") and first["effect"] == "–"
    assert (other["error on gap [cm]"], other["margin [cm]"], other["success"]) == ("1 ± 0", "5 ± 0", "1 ± 0")
    paired = ttest_rel(gaps, plain).confidence_interval(0.95)
    middle, half = 50.0 * (paired.high + paired.low), 50.0 * (paired.high - paired.low)
    assert paired.low > 0.0
    assert other["effect"] == (
        f"better: error on gap [cm] -2 ± 0; worse: error on flights [cm] {middle:+.2g} ± {half:.2g}"
    )


@pytest.mark.slow
def test_a_barrier_that_goes_on_from_an_earlier_one_is_one_way_whichever_that_was(
    experiment: str, tmp_path: Path
) -> None:
    for seed in (0, 1):
        earlier = pretrained(experiment, seed, {"": 0.01})
        pretrained(experiment, seed, {"": 0.008}, init_run=earlier)
    rows = section(written(experiment, tmp_path), TITLE)
    assert [(row["change"], row["n"]) for row in rows] == [("none", "2"), ("`init_run=an earlier run`", "2")]


def test_other_settings_of_the_system_are_another_way(experiment: str, tmp_path: Path) -> None:
    pretrained(experiment, 0, {"": 0.01})
    barrier = SystemConfig().barrier.model_copy(update={"temperature": 0.03})
    pretrained(experiment, 0, {"": 0.02}, system=SystemConfig().model_copy(update={"barrier": barrier}))
    rows = section(written(experiment, tmp_path), TITLE)
    other = row_of(rows, change="`barrier.temperature=0.03`")
    assert (other["error on flights [cm]"], other["effect"]) == ("2", "too few seeds")


@pytest.mark.slow
def test_what_is_said_of_pretraining_is_kept_for_a_page_of_another_store(experiment: str, tmp_path: Path) -> None:
    for seed in (0, 1):
        pretrained(experiment, seed, {"": 0.01, "gap": 0.03}, strata=GAPS)
    first = written(experiment, tmp_path)
    kept = (tmp_path / "pages" / "results.zip").rename(tmp_path / "earlier.zip")
    here = pretrained(experiment, 0, {"": 0.01, "gap": 0.03})
    again = section(written(experiment, tmp_path, f"--runs={here}", f"--kept={kept}"), TITLE)
    (before,) = section(first, TITLE)
    assert before["change"] == "`strata=open:0.5,gap:0.5`" and again[1] == before | {"effect": "too few seeds"}


def test_a_page_without_evaluated_barriers_does_not_speak_of_pretraining(experiment: str, tmp_path: Path) -> None:
    evaluation(experiment, policy(experiment, "default", 0), 0.9, cells=cells())
    assert f"## {TITLE}" not in written(experiment, tmp_path)
