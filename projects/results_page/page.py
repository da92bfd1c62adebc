"""A results page as a whole: which policies it shows, and its sections in their order."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime

import pandas as pd

from drone_cbf.reporting.tables import markdown_table
from projects.comparison.comparison import differing_flights
from projects.results_page.ablations import Ablation, ablations_section, displaced_section, measured_ablations
from projects.results_page.benchmark import benchmark_section
from projects.results_page.curricula import barriers_section, curricula_section
from projects.results_page.data import Results, select_evaluations
from projects.results_page.decay import DECAY, decay_section
from projects.results_page.figures import with_figures
from projects.results_page.joint_training import joint_training_section
from projects.results_page.pretraining import pretraining_section

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

    def markdown(self, written_by: str, picture: str) -> str:
        """The whole page; ``picture``: name of the file with the effects of ablations, empty where there is none."""
        results, displaced = self.results, self.policies[self.policies["augment"] > 0.0]
        policies = self.policies[self.policies["augment"] == 0.0]
        head = (
            f"# Results\n\nWritten by `{written_by}` on {datetime.now(UTC):%Y-%m-%d}, from the runs listed at the "
            "end.\n\nSuccess is reaching the goal and staying there without a collision; the violation is (−(dh/dt + "
            "αh))₊ of the analytic barrier where the command acts, predicted from the true state (README, *What it "
            "measures*)."
        )
        sections = [
            head,
            "\n".join(f"- {note}" for note in self.notes),
            benchmark_section(policies, results.cells, results.runs, self.benchmark),
            joint_training_section(policies, results.losses),
            curricula_section(policies),
            barriers_section(policies, results.cells),
            ablations_section(self.ablations, policies, self.benchmark, picture),
            displaced_section(displaced, self.benchmark),
            decay_section(policies, results.cells),
            pretraining_section(policies),
            runs_section(results),
        ]
        return "\n\n".join(filter(None, sections)) + "\n"

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


def runs_section(results: Results) -> str:
    """Every run behind the page with its commit and duration, the environments, and how to repeat a run."""
    runs = results.runs.assign(minutes=(results.runs["seconds"] / 60.0).round(1)).drop(columns="policy")
    runs = runs.drop_duplicates("run_id").set_index("run_id")
    if runs.empty:
        return "## Runs\n\nNone."
    rows = [
        {
            "curriculum": f"`{policy.group}`",
            "seed": policy.seed,
            "blend": f"{policy.blend:g}",
            "trained by": f"`{policy.trained}`",
            "evaluated by": f"`{policy.policy}`",
            "commit": runs.loc[policy.trained, "commit"],
            "minutes": runs.loc[policy.trained, "minutes"],
        }
        for policy in results.policies.itertuples()
    ]
    before = runs.drop(index=[*results.policies["trained"], *results.policies["policy"]])
    built_on = [
        {"stage": run.stage, "run": f"`{run.Index}`", "commit": run.commit, "minutes": run.minutes}
        for run in before.itertuples()
    ]
    environments = "\n".join(f"- {text}" for text in runs["platform"].unique())
    return (
        f"## Runs\n\n{markdown_table(rows)}\n\nBuilt on:\n\n{markdown_table(built_on)}\n\n{environments}\n\n`mlflow "
        "run . -e reproduce -P run=<ID>` repeats any of them in the store that holds it, and compares it figure by "
        "figure with what was recorded."
    )
