"""The measured policies of a results page as a file beside it, so that a page may hold runs of several stores."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from drone_cbf.errors import ConfigError
from projects.results_page.policies import Policy, with_nan

FIGURES = (
    "success_rate", "collisions", "rollouts", "max_violation", "violation_p999", "relax_rate", "intervention_rate",
    "time_to_goal", "final_distance_mean", "final_distance_p95",
)  # fmt: skip
"""What a page says of a cell; nothing else of it is kept."""
DIGITS = 6
"""Significant ones of each figure: more than any page shows."""
REMEDY = "name the .json file that 'results' writes beside its page"
_POLICIES = TypeAdapter(list[Policy])


def kept_text(policies: Sequence[Policy]) -> str:
    """JSON with a line for each policy, so that a change of one is a change of one line; NaN is null."""
    lines = [json.dumps({**asdict(policy), "cells": _columns(policy.cells)}, default=str) for policy in policies]
    return "[\n" + ",\n".join(lines) + "\n]\n"


def read_kept(place: Path) -> list[Policy]:
    """The policies of a file that ``kept_text`` wrote.

    Raises:
        ConfigError: the file cannot be read, or is none of these.
    """
    try:
        content = json.loads(place.read_text())
        return _POLICIES.validate_python([{**one, "cells": _cells(one["cells"])} for one in content])
    except OSError as error:
        raise ConfigError(f"kept = {place} cannot be read ({error.strerror}); {REMEDY}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"kept = {place} holds no measured policies ({_reason(error)}); {REMEDY}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return " ".join(str(error).split())


def _columns(cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Cells as a table: names once, and a row of values for each."""
    names = ["scene", "noise", "goals", "filtered", *FIGURES]
    return {"columns": names, "data": [[_short(cell.get(name)) for name in names] for cell in cells]}


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return None if math.isnan(value) else float(f"{value:.{DIGITS}g}")
    return value


def _cells(told: dict[str, Any]) -> list[dict[str, Any]]:
    return [with_nan(dict(zip(told["columns"], row, strict=True))) for row in told["data"]]
