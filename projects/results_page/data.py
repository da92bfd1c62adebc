"""Evaluated policies of a results page as tables, and the file that holds them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from drone_cbf.errors import ConfigError

FIGURES = (
    "success_rate", "collisions", "rollouts", "max_violation", "violation_p999", "relax_rate", "intervention_rate",
    "time_to_goal", "final_distance_mean", "final_distance_p95",
)  # fmt: skip
"""The figures of a cell that the page uses."""
TEXT = (
    "policy", "group", "settings", "stage", "curriculum", "description", "barrier", "trained", "evaluated",
    "parameters", "pretraining", "scene", "goals", "loss", "states", "run_id", "commit", "platform",
)  # fmt: skip
"""Columns of text; all others hold numbers."""
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "policies": (
        "policy", "group", "settings", "seed", "blend", "augment", "stage", "curriculum", "description", "barrier",
        "class_k_gain", "gradient_decay", "horizon", "barrier_error", "trained", "evaluated", "rollouts", "parameters",
        "pretraining", "margin", "measurements", "below", "longest", "patience",
    ),
    "cells": ("policy", "scene", "noise", "goals", "filtered", *FIGURES),
    "losses": ("policy", "loss", "states", "before_mean", "after_mean", "before_median", "after_median"),
    "runs": ("policy", "run_id", "stage", "commit", "platform", "seconds"),
}  # fmt: skip
"""Columns that each table has; ``policies`` also has ``error/<stratum>`` of pretrained barriers [m]."""
DIGITS = 6
"""Significant digits of each number in the file, more than any page shows."""
REMEDY = "name the .zip file that 'results' writes with its page"


@dataclass(frozen=True)
class Results:
    """Four tables, joined by ``policy``: the run ID of an evaluation, so of one trained policy evaluated once."""

    policies: pd.DataFrame
    """One row per evaluation: training settings, group and lineage of the policy. ``group`` differs from others in more
    than the seed, ``settings`` is the digest of what it has in common; ``blend`` and ``augment`` are the evaluation's,
    ``parameters`` all of its parameters as JSON, ``rollouts`` all of its flights."""
    cells: pd.DataFrame
    """One row per cell; filter off for policies of the efficiency stage, on for all others."""
    losses: pd.DataFrame
    """Each barrier loss at both ends of the training at blend 1; ``states``: ``updates`` or ``held out``."""
    runs: pd.DataFrame
    """Run by run from the first stage to the training of the policy and its evaluation."""

    def of(self, policies: pd.DataFrame) -> Results:
        """The part of all tables that belongs to ``policies``, in their order."""
        order = pd.Series(range(len(policies)), policies["policy"])
        others = (table[table["policy"].isin(order.index)] for table in (self.cells, self.losses, self.runs))
        return Results(
            policies, *(one.sort_values("policy", key=lambda ids: ids.map(order), kind="stable") for one in others)
        )


def results_of(tables: Mapping[str, Any]) -> Results:
    """From rows by the name of their table; raises KeyError and ValueError where a column is missing or mistyped."""
    return Results(**{field.name: _typed(field.name, pd.DataFrame(tables[field.name])) for field in fields(Results)})


def _typed(name: str, table: pd.DataFrame) -> pd.DataFrame:
    table = table if len(table.columns) else table.reindex(columns=COLUMNS[name])
    missing = [column for column in COLUMNS[name] if column not in table]
    if missing:
        raise KeyError(f"{name}: no column {missing[0]}")
    types = {column: str if column in TEXT else float for column in table} | {"filtered": bool, "seed": int}
    return table.fillna(dict.fromkeys(TEXT, "")).astype({column: types[column] for column in table})


def combined(kept: Results, recorded: Results) -> Results:
    """Both together; an evaluation in both counts as recorded, and keeps both names of its group to choose from."""
    again = kept.policies["policy"].isin(recorded.policies["policy"])
    tables = zip(vars(kept.of(kept.policies[~again])).items(), vars(recorded).values(), strict=True)
    joined = {name: pd.concat([old, new], ignore_index=True) for (name, old), new in tables}
    return Results(**joined | {"policies": pd.concat([kept.policies, recorded.policies], ignore_index=True)})


def archive(results: Results) -> bytes:
    """A zip file with a CSV file for each table; the same results give the same bytes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for field in fields(Results):
            text = getattr(results, field.name).to_csv(index=False, float_format=f"%.{DIGITS}g")
            file.writestr(zipfile.ZipInfo(f"{field.name}.csv"), text, zipfile.ZIP_LZMA)
    return content.getvalue()


def read_archive(place: Path) -> Results:
    """The results of a file that ``archive`` made.

    Raises:
        ConfigError: the file cannot be read, or is none of these.
    """
    types = dict.fromkeys(TEXT, str)
    try:
        with zipfile.ZipFile(place) as file:
            opened = {field.name: file.open(f"{field.name}.csv") for field in fields(Results)}
            return results_of(
                {
                    name: pd.read_csv(table, dtype=types, keep_default_na=False, na_values=[""])
                    for name, table in opened.items()
                }
            )
    except OSError as error:
        raise ConfigError(f"kept = {place} cannot be read ({error.strerror}); {REMEDY}") from error
    except (zipfile.BadZipFile, ValueError, KeyError) as error:
        reason = " ".join(str(error.args[0] if error.args else error).split())
        raise ConfigError(f"kept = {place} holds no results ({reason}); {REMEDY}") from error


def select_evaluations(results: Results) -> tuple[Results, list[str]]:
    """One evaluation of each policy, blend and displacement, and notes on those left out.

    The evaluation with the most flights counts, of equal ones the newer one. Groups of different settings get different
    names: results of several stores, each named by what differs within it, may share one.
    """
    names = results.policies.groupby("settings")["group"].agg(lambda groups: max(groups, key=len))
    ambiguous = names.duplicated(keep=False)
    names[ambiguous] += " [" + names.index[ambiguous].to_series(names.index[ambiguous]) + "]"
    policies = results.policies.assign(group=results.policies["settings"].map(names)).drop_duplicates(
        "policy", keep="last"
    )
    key = ["settings", "seed", "blend", "augment"]
    ordered = policies.sort_values(["rollouts", "evaluated"], kind="stable")
    left_out = ordered[ordered.duplicated(key, keep="last")]
    notes = [
        f"Of the evaluations of {row.group}, seed {row.seed}, at blend {row.blend:g} the one with the most flights "
        f"counts, or else the newest; not {row.policy}."
        for row in left_out.itertuples()
    ]
    order = ["curriculum", "group", "augment", "blend", "seed", "evaluated"]
    return results.of(policies.drop(left_out.index).sort_values(order)), notes
