"""Ablations of a results page, and policies in displaced scenes: each change against its baseline, at equal seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from drone_cbf.reporting.figures.trial_figures import Effects
from drone_cbf.reporting.trials import Interval, paired_difference
from projects.inputs.curriculum_files import ABLATIONS, DEFAULT, available, load_curriculum, nearest_base
from projects.results_page.figures import BARRIER_ERROR, Row, group_rows, groups_and_rows, groups_of

DECAY = f"{ABLATIONS}decay_"
"""Prefix of the ablations of temporal gradient decay, which have tables of their own."""
VIOLATIONS = ("largest violation [m/s]", "largest violation, mean of cells [m/s]")
LARGER_IS_BETTER = {"success": True}
LARGER_IS_BETTER |= dict.fromkeys((*VIOLATIONS, "relaxed steps", "time to goal [s]", BARRIER_ERROR), False)
"""The figures that are tested, by their title."""
OF_ONE_BARRIER = (*VIOLATIONS, BARRIER_ERROR)
"""Those that do not compare where the analytic barrier or its gain differ."""
NO_DIFFERENCE = "no difference found"
TOO_FEW = "too few seeds"


@dataclass(frozen=True)
class Ablation:
    """One group of policies, compared with those of the curriculum that it changes."""

    group: str
    row: Row
    """Of the table."""
    baseline: str
    effects: Mapping[str, Interval | None]
    """Title of a figure -> by how much the change makes it larger; empty where nothing was measured."""


def measured_ablations(policies: pd.DataFrame, benchmark: str) -> list[Ablation]:
    """All shipped ones, measured or not, and all others that were measured; without those of gradient decay."""
    shipped, found = available(), []
    for name in dict.fromkeys([*shipped, *policies["curriculum"]]):
        if name.startswith(ABLATIONS) and not name.startswith(DECAY):
            description = load_curriculum(name).description if name in shipped else ""
            found += compared(policies, name, nearest_measured(policies, name, benchmark), description)
    return found


def nearest_measured(policies: pd.DataFrame, name: str, benchmark: str) -> str:
    """Of what the curriculum ``name`` extends, the nearest that was measured; ``benchmark`` in place of the default."""
    base = nearest_base(name, set(policies["curriculum"]))
    return benchmark if base in (None, DEFAULT) else base


def compared(policies: pd.DataFrame, name: str, baseline: str, description: str = "") -> list[Ablation]:
    """Each group of the curriculum ``name`` against that of ``baseline`` of the same blend, else that of most seeds.

    Without a ``description`` the change is described as when the policies were trained.
    """
    bases, found = groups_of(policies, baseline), []
    for members, row in groups_and_rows(policies, name):
        if members.empty:
            return [Ablation(name, {"change": description, **row}, baseline, {})]
        group, blend, trained_as = members.iloc[0][["group", "blend", "description"]]
        base = max(bases, key=lambda key: (key[1] == blend, len(bases[key])), default=None)
        effects = effects_of(members, bases[base] if base else policies[:0])
        row = {"change": description or trained_as, **row, "compared with": f"`{baseline}`"}
        found.append(Ablation(group, row | {"effect": effect_text(effects)}, baseline, effects))
    return found


def effects_of(members: pd.DataFrame, base: pd.DataFrame) -> dict[str, Interval | None]:
    """By how much each tested figure of ``members`` is larger than that of ``base``."""
    barriers = pd.concat([members, base])[["barrier", "class_k_gain"]].drop_duplicates()
    ours, theirs = (some[some["cells"] > 0].set_index("seed") for some in (members, base))
    titles = (title for title in LARGER_IS_BETTER if len(barriers) == 1 or title not in OF_ONE_BARRIER)
    return {title: paired_difference(ours[title], theirs[title]) for title in titles}


def effect_text(effects: Mapping[str, Interval | None]) -> str:
    """``better: ...; worse: ...`` with the differences that exclude zero; NaN is neither."""
    significant: dict[str, list[str]] = {"better": [], "worse": []}
    for title, change in effects.items():
        if change is not None and change.excludes_zero:
            better = (change.mean > 0.0) is LARGER_IS_BETTER.get(title, False)  # other figures are errors
            text = f"{title} {change.mean:+.2g} ± {change.half_width:.2g}"
            significant["better" if better else "worse"].append(text)
    if not any(effects.values()):
        return TOO_FEW
    return "; ".join(f"{word}: {', '.join(texts)}" for word, texts in significant.items() if texts) or NO_DIFFERENCE


def drawn_effects(ablations: Sequence[Ablation]) -> tuple[str, Effects]:
    """The baseline that most ablations of several seeds have, and the effects of those that have it."""
    known = [one for one in ablations if any(one.effects.values())]
    baseline = Counter(one.baseline for one in known).most_common(1)[0][0] if known else ""
    return baseline, {one.group.removeprefix(ABLATIONS): one.effects for one in known if one.baseline == baseline}


def displaced_tables(policies: pd.DataFrame, benchmark: str) -> list[list[Row]]:
    """Every curriculum that was evaluated in displaced scenes, a table for each displacement."""
    tables = []
    for level, members in policies.groupby("augment"):
        unchanged, changed = [], []
        for name in members["curriculum"].unique():
            baseline = nearest_measured(members, name, benchmark)
            if name == benchmark or not groups_of(members, baseline):
                unchanged += [{"change": "none", **row} for row in group_rows(members, name)]
            else:
                changed += [one.row for one in compared(members, name, baseline)]
        tables.append([{"augment": f"{level:g}", **row} for row in [*unchanged, *changed]])
    return tables
