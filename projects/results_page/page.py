"""A results page as a whole: which policies it shows, and its sections in their order."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime

import pandas as pd

from drone_cbf.reporting.pages.rendering import render
from drone_cbf.reporting.trials import CONFIDENCE
from projects.comparison.comparison import differing_flights
from projects.results_page.ablations import Ablation, displaced_tables, measured_ablations
from projects.results_page.benchmark import benchmark_tables
from projects.results_page.data import Results, select_evaluations
from projects.results_page.figures import group_rows, with_figures
from projects.results_page.joint_training import UPDATES, joint_training
from projects.results_page.sections import (
    DECAY,
    barrier_rows,
    curriculum_rows,
    decay_tables,
    pretraining_rows,
    run_tables,
)

SHOWN_BY_TABLES = ("The evaluations differ in blend:", "The evaluations differ in scenarios:")
"""Notes that the page leaves out: its tables have a column for the blend, use the same cells of every policy, and say
where cells are missing."""
HEADLINES = {"success_rate": "min", "collisions": "sum", "rollouts": "sum", "max_violation": "max"}
"""Figures of the terminal's table, and how the cells of one policy become one number."""


@dataclass(frozen=True)
class Page:
    """What a results page shows."""

    results: Results
    """One evaluation of each policy, blend and displacement."""
    policies: pd.DataFrame
    """The same policies with their figures."""
    notes: list[str]
    """For the reader: evaluations left out, and differences between those compared."""
    benchmark: str
    """Curriculum that is held against the targets."""
    ablations: list[Ablation]

    def markdown(self, command: str, picture: str) -> str:
        """The whole page; ``picture``: name of the file with the effects of ablations, empty where there is none."""
        results, displaced = self.results, self.policies[self.policies["augment"] > 0.0]
        policies = self.policies[self.policies["augment"] == 0.0]
        unchanged = [{"change": "none", **row} for row in group_rows(policies, self.benchmark)]
        page = render(
            "results.md",
            command=command,
            date=f"{datetime.now(UTC):%Y-%m-%d}",
            notes=self.notes,
            confidence=f"{100 * CONFIDENCE:.0f} %",
            benchmark=benchmark_tables(policies, results.cells, results.runs, self.benchmark),
            updates=UPDATES,
            joint=joint_training(policies, results.losses),
            curricula=curriculum_rows(policies),
            barriers=barrier_rows(policies, results.cells),
            picture=picture,
            ablations=[*unchanged, *(one.row for one in self.ablations)],
            displaced=displaced_tables(displaced, self.benchmark),
            decay=decay_tables(policies, results.cells),
            pretraining=pretraining_rows(policies),
            runs=run_tables(results),
        )
        return page.strip() + "\n"

    def headlines(self) -> pd.DataFrame:
        """A row per policy of the safety stage, for the terminal: the worst of all its cells."""
        cells = self.results.cells.groupby("policy")
        worst = {name: cells[name].agg(how, skipna=False) for name, how in HEADLINES.items()}
        policies = self.results.policies[self.results.policies["stage"] == "safety"]
        names = [
            f"{row.group}, blend {row.blend:g}{f', augment {row.augment:g}' if row.augment else ''}"
            for row in policies.itertuples()
        ]
        return policies[["policy", "seed"]].assign(group=names).join(pd.DataFrame(worst), on="policy")


def page_of(found: Results, benchmark: str) -> Page:
    """What a page shows of all evaluations that were ``found``."""
    results, notes = select_evaluations(found)
    every = with_figures(results.policies, results.cells)
    policies = every[every["augment"] == 0.0]
    compared = policies[(policies["stage"] == "safety") & ~policies["curriculum"].str.startswith(DECAY)]
    differing = differing_flights([json.loads(text) for text in compared["parameters"]])
    notes += [note for note in differing if not note.startswith(SHOWN_BY_TABLES)]
    if every.empty:
        notes = ["None of these runs has a finished evaluation."]
    return Page(results, every, notes, benchmark, measured_ablations(policies, benchmark))
