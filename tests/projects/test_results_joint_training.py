"""The results page on joint training: losses at blend 1 and success against its threshold, from recorded histories."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mlflow.entities import Metric
from mlflow.tracking import MlflowClient

from tests.projects.pages import cells, row_of, section, written
from tests.projects.recorded import evaluation, policy, record

TITLE = "Joint training at blend 1"
STEPS = 60
"""Updates of each of the two stages."""


def trained(
    experiment: str,
    seed: int,
    losses: dict[str, list[float]],
    success: dict[int, float],
    weights: dict[str, float] | None = None,
    curriculum: str = "mine",
    held_out: dict[int, dict[str, tuple[float, float]]] | None = None,
) -> str:
    """A finished, evaluated safety run of two stages, blend 0 and 1: losses at blend 1, success by step."""
    client = MlflowClient()
    run_id = record(experiment, "safety", {"seed": seed}, curriculum=curriculum)
    stages = [
        {"name": "analytic", "steps": STEPS, "blend": 0.0, "success_threshold": 0.9},
        {"name": "neural", "steps": STEPS, "blend": 1.0, "success_threshold": 0.95},
    ]
    content = {"name": curriculum, "learning": {"weights": weights or {}}, "monitor": {"patience": 2}, "stages": stages}
    client.log_text(run_id, json.dumps(content), "curriculum.json")
    rows = []
    for step in range(2 * STEPS):
        stage = step // STEPS
        values = {"curriculum/blend": float(stage), "curriculum/stage": float(stage)}
        for name, falling in losses.items():
            values[f"loss/{name}"] = falling[step - STEPS] if stage else 100.0
        values |= {"eval/success_rate": success[step]} if step in success else {}
        for name, ends in (held_out or {}).get(step, {}).items():
            values |= {f"held_out/{name}_{when}": end for when, end in zip(("before", "after"), ends, strict=True)}
        rows += [Metric(name, value, step, step) for name, value in values.items()]
    for first in range(0, len(rows), 900):
        client.log_batch(run_id, metrics=rows[first : first + 900])
    client.set_terminated(run_id)
    evaluation(experiment, run_id, 0.9, cells=cells())
    return run_id


def falling(first: float, last: float) -> list[float]:
    """``first`` for ten updates, ``last`` for ten at the end, and what must not count between."""
    return [first] * 10 + [1e3] * (STEPS - 20) + [last] * 10


def test_the_means_of_the_first_and_last_ten_updates_at_blend_1_are_compared(experiment: str, tmp_path: Path) -> None:
    # 0.04 .. 0.13 and 0.004 .. 0.013: means 0.085 and 0.0085, so a tenth. What is between, or at blend 0, is no part.
    value = [0.04 + 0.01 * i for i in range(10)] + [7.0] * (STEPS - 20) + [0.004 + 0.001 * i for i in range(10)]
    trained(experiment, 3, {"cbf_value": value, "cbf_gradient": falling(0.5, 0.25)}, {})
    page = written(experiment, tmp_path)
    row = row_of(section(page, TITLE), curriculum="`mine`", seed="3")
    assert row["`cbf_value`, by updates"] == "0.085 → 0.0085 (× 0.1; median × 0.1)"
    assert row["`cbf_gradient`, by updates"] == "0.5 → 0.25 (× 0.5; median × 0.5)"
    assert row["fall, by updates"] == "yes" and "In 1 of 1 runs every loss of the barrier falls" in page


def test_a_loss_that_rises_is_named_and_an_outlier_is_told_from_a_rise(experiment: str, tmp_path: Path) -> None:
    spiked = falling(0.5, 0.25)
    spiked[-1] = 100.25
    trained(experiment, 0, {"cbf_value": falling(0.1, 0.2), "cbf_gradient": spiked}, {})
    page = written(experiment, tmp_path)
    row = row_of(section(page, TITLE), curriculum="`mine`")
    assert row["fall, by updates"] == "**no**: `cbf_value`, `cbf_gradient`"
    assert row["`cbf_gradient`, by updates"] == "0.5 → 10 (× 20; median × 0.5)", "(9 x 0.25 + 100.25) / 10 = 10.25"
    assert "In 0 of 1 runs" in page


@pytest.mark.slow
def test_held_out_losses_are_those_of_the_last_stage_at_blend_1(experiment: str, tmp_path: Path) -> None:
    rising = {"cbf_value": falling(0.1, 0.2), "cbf_gradient": falling(1.0, 0.5)}
    told = {
        STEPS - 1: {"cbf_value": (9.0, 1.0), "cbf_gradient": (9.0, 1.0)},  # at blend 0
        STEPS + 9: {"cbf_value": (9.0, 1.0), "cbf_gradient": (9.0, 1.0)},  # trained longer after that
        2 * STEPS - 1: {"cbf_value": (0.4, 0.1), "cbf_gradient": (0.5, 0.6)},
    }
    trained(experiment, 0, rising, {}, held_out=told)
    trained(experiment, 1, rising, {}, held_out={2 * STEPS - 1: {"cbf_value": (0.4, 0.1), "cbf_gradient": (0.5, 0.4)}})
    trained(experiment, 2, rising, {})
    page = written(experiment, tmp_path)
    one, other, unknown = (row_of(section(page, TITLE), curriculum="`mine`", seed=str(seed)) for seed in range(3))
    assert one["`cbf_value`, held out"] == "0.4 → 0.1 (× 0.25)" and one["fall, held out"] == "**no**: `cbf_gradient`"
    assert other["fall, held out"] == "yes" and other["fall, by updates"] == "**no**: `cbf_value`"
    assert unknown["fall, held out"] == "not measured"
    assert (
        "In 0 of 3 runs every loss of the barrier falls at blend 1 by the updates; on held-out states in 1 of the 2"
        in page
    )


@pytest.mark.slow
def test_runs_of_ablations_are_counted_but_not_listed(experiment: str, tmp_path: Path) -> None:
    trained(experiment, 0, {"cbf_value": falling(1.0, 0.5)}, {})
    for seed, last in enumerate((0.5, 0.9, 1.1)):
        trained(experiment, seed, {"cbf_value": falling(1.0, last)}, {}, curriculum="ablations/ema")
    page = written(experiment, tmp_path)
    assert [row["curriculum"] for row in section(page, TITLE)] == ["`mine`"] and "In 1 of 1 runs" in page
    assert "Of 3 runs of ablations, which are not listed, in 2 all fall by the updates." in page


def test_losses_without_weight_at_blend_1_are_left_out_and_one_that_stays_zero_is_no_rise(
    experiment: str, tmp_path: Path
) -> None:
    losses = {name: falling(1.0, 2.0) for name in ("cbf_value", "cbf_gradient", "cbf_safe", "cbf_hdot")}
    taught = {"cbf_value": 0.0, "cbf_gradient": 0.0, "cbf_safe": 1.0, "cbf_hdot": 0.2}
    trained(experiment, 0, losses | {"cbf_hdot": [0.0] * STEPS, "cbf_safe": falling(0.2, 0.1)}, {}, taught)
    row = row_of(section(written(experiment, tmp_path), TITLE), curriculum="`mine`")
    assert not {name for name in row if name.startswith(("`cbf_value`", "`cbf_gradient`"))}
    assert row["`cbf_safe`, by updates"].startswith("0.2 → 0.1") and row["fall, by updates"] == "yes"


def test_success_below_its_stages_threshold_for_longer_than_the_patience_is_shown_as_such(
    experiment: str, tmp_path: Path
) -> None:
    losses = {"cbf_value": falling(1.0, 0.5)}
    # 0.92 passes in the first stage, and not in the second; of the failures in the first stage the last one touches it.
    borne = {20: 0.92, 40: 0.5, 59: 0.5, 70: 0.94, 80: 0.94, 90: 0.96, 100: 0.94, 119: 0.99}
    trained(experiment, 0, losses, borne)
    trained(experiment, 1, losses, borne | {90: 0.92})
    trained(experiment, 2, losses, {})
    page = written(experiment, tmp_path)
    rows = section(page, TITLE)
    kept, lost, unknown = (row_of(rows, curriculum="`mine`", seed=str(seed)) for seed in range(3))
    names = ("success below threshold", "longest run", "patience", "success holds")
    assert [kept[name] for name in names] == ["5 of 8", "2", "2", "yes"], "a new stage counts anew"
    assert [lost[name] for name in names] == ["6 of 8", "4", "2", "**no**"]
    assert unknown["success below threshold"] == "not measured"
    assert "In 1 of 2 monitored runs success was never below" in page


@pytest.mark.parametrize("measured", [float("nan"), 0.0])
def test_a_success_that_is_no_number_is_below_every_threshold(experiment: str, tmp_path: Path, measured: float) -> None:
    trained(experiment, 0, {"cbf_value": falling(1.0, 0.5)}, {70: measured, 80: measured, 90: measured})
    row = row_of(section(written(experiment, tmp_path), TITLE), curriculum="`mine`")
    assert (row["longest run"], row["success holds"]) == ("3", "**no**")


@pytest.mark.slow
def test_runs_without_such_a_history_are_not_measured(experiment: str, tmp_path: Path) -> None:
    evaluation(experiment, policy(experiment, "default", 0), 0.9, cells=cells())  # ten updates at blend 1
    page = written(experiment, tmp_path)
    assert f"## {TITLE}\n\nNot measured: none of these runs has a history of 20 updates at blend 1." in page
