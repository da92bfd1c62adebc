"""A results page as a whole: which policies it shows, and its sections."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import pandas as pd

from drone_cbf.reporting.pages import render
from drone_cbf.reporting.trials import CONFIDENCE
from projects.comparison.comparison import differing_flights
from projects.results_page import sections
from projects.results_page.ablations import DECAY, Ablation, displaced_tables
from projects.results_page.benchmark import benchmark_tables
from projects.results_page.data import Results
from projects.results_page.figures import group_rows
from projects.results_page.joint_training import UPDATES, joint_training

SHOWN_BY_TABLES = ("The evaluations differ in blend:", "The evaluations differ in scenarios:")
"""Notes that the page leaves out: its tables have a column for the blend, use the same cells of every policy, and say
where cells are missing."""
HEADLINES = {"success_rate": "min", "collisions": "sum", "rollouts": "sum", "max_violation": "max"}
"""Figures of the terminal's table, and how the cells of one policy become one number."""


def page_text(
    results: Results, policies: pd.DataFrame, ablations: Sequence[Ablation], benchmark: str, **head: object
) -> str:
    """The whole page in Markdown; ``policies``: those of the results with their figures, ``benchmark``: the curriculum
    that is held against the targets, ``head``: the template's ``command``, ``notes`` and ``picture``."""
    plain, displaced = policies[policies["augment"] == 0.0], policies[policies["augment"] > 0.0]
    unchanged = [{"change": "none", **row} for row in group_rows(plain, benchmark)]
    page = render(
        "results.md",
        **head,
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        confidence=f"{100 * CONFIDENCE:.0f} %",
        benchmark=benchmark_tables(plain, results.cells, results.runs, benchmark),
        updates=UPDATES,
        joint=joint_training(plain, results.losses),
        curricula=sections.curriculum_rows(plain),
        barriers=sections.barrier_rows(plain, results.cells),
        ablations=[*unchanged, *(one.row for one in ablations)],
        displaced=displaced_tables(displaced, benchmark),
        decay=sections.decay_tables(plain, results.cells),
        pretraining=sections.pretraining_rows(plain),
        runs=sections.run_tables(results),
    )
    return page.strip() + "\n"


def notes_on(policies: pd.DataFrame) -> list[str]:
    """Differences between the evaluations of policies that stand in the same tables."""
    if policies.empty:
        return ["None of these runs has a finished evaluation."]
    decay = policies["curriculum"].str.startswith(DECAY)
    compared = policies[(policies["augment"] == 0.0) & (policies["stage"] == "safety") & ~decay]
    differing = differing_flights([json.loads(text) for text in compared["parameters"]])
    return [note for note in differing if not note.startswith(SHOWN_BY_TABLES)]


def headlines(results: Results) -> pd.DataFrame:
    """A row per policy of the safety stage, for the terminal: the worst of all its cells."""
    cells, policies = results.cells.groupby("policy"), results.policies[results.policies["stage"] == "safety"]
    worst = {name: cells[name].agg(how, skipna=False) for name, how in HEADLINES.items()}
    names = [
        f"{row.group}, blend {row.blend:g}{f', augment {row.augment:g}' if row.augment else ''}"
        for row in policies.itertuples()
    ]
    return policies[["policy", "seed"]].assign(group=names).join(pd.DataFrame(worst), on="policy")
