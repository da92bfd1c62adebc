"""What the terminal shows of an evaluation."""

from __future__ import annotations

from projects.running.summaries import evaluation_text


def cell(goals: str, filtered: bool, success: float, collisions: float, rollouts: float) -> dict[str, object]:
    place = {"scene": "forest", "noise": 0.05, "goals": goals, "filtered": filtered}
    figures = {"success_rate": success, "collisions": collisions, "rollouts": rollouts}
    return {**place, **figures, "max_violation": 1.0 + success, "final_distance_mean": 0.01 * rollouts}


CELLS = [
    cell("trained", True, 1.0, 0.0, 8.0),
    cell("trained", False, 0.5, 3.0, 4.0),
    cell("random", True, 0.75, 1.0, 8.0),
]


def test_a_row_shows_the_worst_over_goals_with_the_filter_on_beside_off() -> None:
    row = next(line for line in evaluation_text(CELLS, {}).splitlines() if line.startswith("forest"))
    assert row.split("  ")[0] == "forest"
    for text in ("0.75 | 0.5", "1/16 | 3/4", "2 | 1.5", "0.08 | 0.04"):
        assert f" {text}" in row


def test_every_target_is_there_with_its_verdict_and_a_missing_figure_fails() -> None:
    text = evaluation_text(CELLS, {"eval/success_rate": 0.99, "eval/max_violation": 3.0})
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.startswith("eval/")}
    assert rows["eval/success_rate"] == ["0.99", ">=", "0.98", "pass"]
    assert rows["eval/max_violation"] == ["3", "<=", "2", "FAIL"]
    assert rows["eval/relax_rate"][-1] == "FAIL"


def test_without_a_filter_there_are_no_targets() -> None:
    assert "gates.yaml" not in evaluation_text([cell("random", False, 0.5, 0.0, 4.0)], {})
