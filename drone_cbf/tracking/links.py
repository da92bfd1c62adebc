"""Addresses of pages in MLflow's UI, from ``#/`` on, so that links in descriptions work on any server."""

from __future__ import annotations

import json
from collections.abc import Sequence
from urllib.parse import quote

MODE = "workflowType=machine_learning"
"""End of every address of the UI: without it, MLflow opens its pages for language models."""


def run_page(run_id: str, experiment_id: str) -> str:
    return f"#/experiments/{experiment_id}/runs/{run_id}?{MODE}"


def linked(run_id: str, experiment_id: str) -> str:
    """The run ID as a Markdown link to its page."""
    return f"[{run_id}]({run_page(run_id, experiment_id)})"


def compare_page(run_ids: Sequence[str], experiment_ids: Sequence[str]) -> str:
    """MLflow's comparison of these runs: parallel coordinates, scatter and box plots, tables."""
    return f"#/compare-runs?runs={_list(run_ids)}&experiments={_list(sorted(set(experiment_ids)))}&{MODE}"


def _list(names: Sequence[str]) -> str:
    return quote(json.dumps(list(names), separators=(",", ":")), safe="")
