"""Run IDs as people paste them."""

from __future__ import annotations

import pytest

from projects.cli.arguments import parse, resume_request, run_named
from projects.cli.run_ids import as_run_id
from projects.cli.stage_parameters import EvaluateParameters, SafetyParameters
from projects.cli.store_parameters import CompareParameters, RegisterParameters

ID = "0123456789abcdef0123456789abcdef"
PAGE = f"http://127.0.0.1:5000/#/experiments/1/runs/{ID}?workflowType=machine_learning"


@pytest.mark.parametrize(
    "pasted", [ID, f"  {ID}\t", PAGE, f" {PAGE} ", f"https://mlflow/#/experiments/3/runs/{ID}/artifacts"]
)
def test_blanks_and_the_address_of_a_page_are_understood_wherever_a_run_is_named(pasted: str) -> None:
    assert as_run_id(pasted) == ID
    assert parse("evaluate", EvaluateParameters, [f"--parent_run={pasted}"]).parameters.parent_run == ID
    assert parse("register", RegisterParameters, [f"--run={pasted}"], system=False).parameters.run == ID
    assert parse("compare", CompareParameters, [f"--runs={pasted},b"], system=False).parameters.runs == (ID, "b")
    assert resume_request(SafetyParameters, [f"--resume_run={pasted}"]) == ID
    assert parse("safety", SafetyParameters, [f"--resume_run={pasted}"]).parameters.resume_run == ID


def test_other_text_stays_as_it_is() -> None:
    assert as_run_id("swift-hawk-1") == "swift-hawk-1" and as_run_id(7) == 7 and as_run_id("  ") == ""


def test_the_run_that_a_command_line_names_is_known_before_it_is_parsed() -> None:
    assert run_named(["--seed=1", "--parent_run= ", "--run=abc"]) == "run abc"
    assert run_named(["--resume_run=", "--seed", "1"]) == "" and run_named(["nonsense"]) == ""
