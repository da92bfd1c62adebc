"""Evaluated policies of a results page as tables, and the file that holds them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from drone_cbf.documents import parse_json
from drone_cbf.errors import ConfigError

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
    "cells": (
        "policy", "scene", "noise", "goals", "filtered", "success_rate", "collisions", "rollouts", "max_violation",
        "violation_p999", "relax_rate", "intervention_rate", "time_to_goal", "final_distance_mean",
        "final_distance_p95",
    ),
    "losses": ("policy", "loss", "states", "before_mean", "after_mean", "before_median", "after_median"),
    "runs": ("policy", "run_id", "stage", "commit", "platform", "seconds"),
}  # fmt: skip
"""Columns that each table has; ``policies`` also has ``error/...`` of pretrained barriers."""
ERROR = "error/"
"""Columns with their errors on flights and on each stratum [m]."""
LARGEST = 1 << 28  # Bytes of all tables
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
        others = (self.cells, self.losses, self.runs)
        return Results(policies, *(policies[["policy"]].merge(table, on="policy") for table in others))


def results_of(tables: Mapping[str, Any]) -> Results:
    """From rows by the name of their table; raises KeyError and ValueError where a column is missing or mistyped."""
    return Results(**{name: _typed(name, pd.DataFrame(tables[name])) for name in COLUMNS})


def _typed(name: str, table: pd.DataFrame) -> pd.DataFrame:
    table = table if len(table.columns) else pd.DataFrame(columns=COLUMNS[name])
    if missing := [column for column in COLUMNS[name] if column not in table]:
        raise KeyError(f"{name}: no column {missing[0]}")
    types = {column: str if column in TEXT else float for column in table} | {"filtered": bool, "seed": int}
    return table.fillna(dict.fromkeys(TEXT, "")).astype({column: types[column] for column in table})


def combined(kept: Results, recorded: Results) -> Results:
    """Both together; an evaluation in both counts as recorded, and keeps both names of its group to choose from."""
    again = kept.policies["policy"].isin(recorded.policies["policy"])
    old = kept.of(kept.policies[~again])
    both = {name: (getattr(old, name), getattr(recorded, name)) for name in COLUMNS}
    both["policies"] = kept.policies, recorded.policies
    return Results(**{name: pd.concat(tables, ignore_index=True) for name, tables in both.items()})


def archive(results: Results) -> bytes:
    """A zip file with a CSV file for each table, numbers with six digits; the same results give the same bytes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name in COLUMNS:
            text = getattr(results, name).to_csv(index=False, float_format="%.6g")
            file.writestr(zipfile.ZipInfo(f"{name}.csv"), text, zipfile.ZIP_DEFLATED, compresslevel=9)
    return content.getvalue()


def read_archive(place: Path) -> Results:
    """The results of a file that ``archive`` made.

    Raises:
        ConfigError: the file cannot be read, or is none of these.
    """
    look = {"dtype": dict.fromkeys(TEXT, str), "keep_default_na": False, "na_values": [""]}
    try:
        with zipfile.ZipFile(place) as file:
            if sum(member.file_size for member in file.infolist()) > LARGEST:
                raise ValueError(f"it holds more than {LARGEST:,} bytes")
            results = results_of({name: pd.read_csv(file.open(f"{name}.csv"), **look) for name in COLUMNS})
        if not all(isinstance(parse_json(text), dict) for text in filter(None, results.policies["parameters"])):
            raise ValueError("policies: parameters are no settings")
        return results
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
    policies = results.policies
    names = policies.groupby("settings")["group"].agg(lambda groups: max(groups, key=len))
    names = names.where(~names.duplicated(keep=False), names + " [" + names.index + "]")
    policies = policies.assign(group=policies["settings"].map(names)).drop_duplicates("policy", keep="last")
    ordered = policies.sort_values(["rollouts", "evaluated"], kind="stable")
    left_out = ordered[ordered.duplicated(["settings", "seed", "blend", "augment"], keep="last")]
    notes = [
        f"Of the evaluations of {row.group}, seed {row.seed}, at blend {row.blend:g} the one with the most flights "
        f"counts, or else the newest; not {row.policy}."
        for row in left_out.itertuples()
    ]
    order = ["curriculum", "group", "augment", "blend", "seed", "evaluated"]
    return results.of(policies.drop(left_out.index).sort_values(order)), notes
