"""``report`` on recorded runs of a real store."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlparse

import pytest
from mlflow.tracking import MlflowClient

from projects.running.launch import launch
from tests.projects.recorded import evaluation, policy, record


def report(experiment: str, *arguments: str) -> tuple[str, bytes]:
    """The HTML and the PDF that the report's run holds."""
    assert launch("report", list(arguments)) == 0
    run = MlflowClient().search_runs([experiment], "tags.drone_cbf.stage = 'report'", max_results=1)[0]
    folder = Path(urlparse(run.info.artifact_uri).path) / "report"
    return (folder / "report.html").read_text(), (folder / "report.pdf").read_bytes()


def test_a_report_tells_of_runs_comparison_cells_flights_training_settings_and_environment(experiment: str) -> None:
    runs = [policy(experiment, name, seed) for name in ("default", "hybrid") for seed in (0, 1)]
    measured = [evaluation(experiment, run_id, 0.97) for run_id in runs]
    page, pdf = report(experiment, f"--runs={','.join(runs)}", "--title=Two <curricula>")
    for run_id in (*runs, *measured):
        assert run_id in page, "every run is named, the evaluations found by themselves"
    assert re.findall(r"<h2>(.*?)</h2>", page) == [
        "Runs", "Comparison", "Evaluation", "Trajectories", "Training", "Settings", "Environment", "Repeat",
    ]  # fmt: skip
    for text in (
        "97.00 %",
        "0.97 ± 0",
        "Student-t interval",
        "0.10.2",
        "0123456789abcdef",
        "forest: the same policy".capitalize(),
    ):
        assert text in page
    assert "Two &lt;curricula&gt;" in page and "<curricula>" not in page
    # Two figures of the comparison, a matrix for each evaluation, flights of each group, the curves of the stage.
    assert page.count('src="data:image/png;base64,') == 2 + 4 + 2 + 1
    assert not re.search(r'(src|href)="(?!data:|#|http://127)', page) and "<script" not in page
    assert pdf.startswith(b"%PDF-") and pdf.rstrip().endswith(b"%%EOF") and len(pdf) > 50_000


@pytest.mark.slow
def test_ablations_are_set_against_the_nearest_evaluated_curriculum_below_them_by_their_difference(
    experiment: str,
) -> None:
    names = ("default", "ablations/gates_open", "ablations/ema")
    runs = {name: [policy(experiment, name, seed) for seed in (0, 1)] for name in names}
    for name, successes in zip(names, ((0.96, 0.98), (0.95, 0.98), (0.94, 0.98)), strict=True):
        for run_id, success in zip(runs[name], successes, strict=True):
            evaluation(experiment, run_id, success)

    def rows(*curricula: str) -> list[list[str]]:
        page, _ = report(experiment, f"--runs={','.join(run_id for name in curricula for run_id in runs[name])}")
        assert "<h2>Ablations</h2>" in page
        section = page.split("<h2>Ablations</h2>")[1].split("<h2>")[0]
        found = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", section, re.DOTALL)]
        return [row[:4] for row in found if row]

    only_default = rows("default", "ablations/ema")
    assert [row[:3] for row in only_default] == [["default", "nothing", "2"], ["ablations/ema", "ablations/ema", "2"]]
    assert only_default[0][3].startswith("0.97 ±") and only_default[1][3] == "-0.01"
    by_curriculum = {row[0]: row[3] for row in rows(*names) if row[1] != "nothing"}
    assert by_curriculum == {"ablations/gates_open": "-0.005", "ablations/ema": "-0.005"}


def test_a_run_that_was_not_evaluated_is_reported_with_the_command_that_does_it(experiment: str) -> None:
    run_id = policy(experiment, "default", 0)
    failed = record(experiment, "safety", {"seed": 1}, failure="loss/total became nan")
    MlflowClient().set_terminated(failed, "FAILED")
    page, _ = report(experiment, f"--runs={run_id},{failed}")
    assert f"mlflow run . -e evaluate -P parent_run={run_id}" in page
    assert "loss/total became nan" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--runs=nothing"], "report failed: run 'nothing' was not found in sqlite"),
        (["--experiment=nowhere"], "report failed: experiment = nowhere does not exist"),
        ([], "report failed: runs and experiment are both missing"),
        (["--runs=x", "--title="], "report failed: title ="),
    ],
)
def test_bad_input_is_one_line(
    experiment: str, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert launch("report", arguments) == 1
    shown = capsys.readouterr().err
    assert message in shown and shown.count("\n") == 1
    assert MlflowClient().search_runs([experiment])[0].info.status == "FAILED"
