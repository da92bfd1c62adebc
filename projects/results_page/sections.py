"""Tables of a results page: curricula, barriers, gradient decay by horizon, pretraining of the barrier, and runs."""

from __future__ import annotations

import pandas as pd

from drone_cbf.reporting.trials import interval, paired_difference
from projects.inputs.curriculum_files import ABLATIONS, available, load_curriculum
from projects.results_page import figures
from projects.results_page.ablations import DECAY, effect_text
from projects.results_page.data import ERROR, Results
from projects.results_page.figures import BARRIER_ERROR, FLIGHTS, NOT_MEASURED, ORIGINAL, RELAXED_OF_CHANGED, Row

BARRIERS = {
    "distance_hocbf": "analytic distance, second order; quadratic slack",
    f"{ABLATIONS}distance_linear": "analytic distance, second order; linear slack",
    f"{ABLATIONS}distance_braking": "analytic braking distance; linear slack; all else as in `distance_hocbf`",
    f"{ABLATIONS}slack_quadratic": "neural braking distance; quadratic slack",
    "analytic_baseline": "analytic braking distance; linear slack",
    "default": "neural braking distance; linear slack",
}
"""Curriculum -> its barrier and its price on slack."""
OF_BARRIERS = ("curriculum", "n", "success", "relaxed steps", RELAXED_OF_CHANGED, "collisions")
"""Columns that the table of barriers repeats from the others."""
WITH_BARRIER = ("success", "largest violation, mean of cells [m/s]")
"""What is shown of the flights with a pretrained barrier in the filter."""
JOINT_FIGURES = ("success", "time to goal [s]", "largest violation, mean of cells [m/s]", BARRIER_ERROR)
"""What is shown of gradient decay in joint training, where nearly all flights succeed."""


def curriculum_rows(policies: pd.DataFrame) -> list[Row]:
    """Every shipped curriculum that is not an ablation, and every other that was measured.

    Not ``fast``, which is too short to learn anything, nor those with another sensor: their cells are not comparable.
    """
    trained = policies[policies["stage"] == "safety"]["curriculum"]
    known = [name for name in available() if name != "fast" and not load_curriculum(name).trained_with]
    names = dict.fromkeys([*known, *trained])
    return [row for name in names if not name.startswith(ABLATIONS) for row in figures.group_rows(policies, name)]


def barrier_rows(policies: pd.DataFrame, cells: pd.DataFrame) -> list[Row]:
    """The original's barrier next to the braking barrier: why its policies live on slack, and what cures it."""
    by_scene = figures.benchmark_cells(cells).groupby(["policy", "scene"])["max_violation"]
    largest = by_scene.agg("max", skipna=False).unstack()
    rows = []
    for name, text in BARRIERS.items():
        for members, row in figures.groups_and_rows(policies, name):
            shown = {"barrier and price on slack": text, **{title: row[title] for title in OF_BARRIERS if title in row}}
            if len(members):
                flown = largest.reindex(index=members["policy"], columns=ORIGINAL).dropna(how="all")
                shown |= {f"violation in {scene}": interval(flown[scene]).text(".3g") for scene in ORIGINAL}
            rows.append(shown)
    return rows


def decay_tables(policies: pd.DataFrame, cells: pd.DataFrame) -> dict[str, list[Row]]:
    """A row for each decay [1/s] and horizon [steps]: efficiency policies without a filter, safety policies with it."""
    shipped = {name: load_curriculum(name) for name in available() if name.startswith(DECAY)}
    places = {name: (float(one.system["physics.gradient_decay"]), one.stages[0].horizon)
              for name, one in shipped.items()}  # fmt: skip
    efficiency = policies[(policies["stage"] == "efficiency") & policies["policy"].isin(cells["policy"])]
    flown = cells[cells["policy"].isin(efficiency["policy"])]
    tables: dict[str, list[Row]] = {"from_scratch": [], "jointly": []}
    for name, (decay, horizon) in sorted(places.items(), key=lambda item: item[1]):
        trained_so = (efficiency["gradient_decay"] == decay) & (efficiency["horizon"] == horizon)
        scratch, joint = efficiency[trained_so], policies[policies["curriculum"] == name]
        shown = _by_scene(scratch, flown), {title: interval(joint[title]).text() for title in JOINT_FIGURES}
        for rows, members, measured in zip(tables.values(), (scratch, joint), shown, strict=True):
            row: Row = {"decay": decay, "horizon": horizon, "n": len(members), FLIGHTS: None}
            measured = {FLIGHTS: int(members[FLIGHTS].min()), **measured} if len(members) else {"success": NOT_MEASURED}
            rows.append(row | measured)
    return tables


def _by_scene(members: pd.DataFrame, cells: pd.DataFrame) -> Row:
    row: Row = {}
    for scene in cells["scene"].unique():
        of_scene = cells[(cells["scene"] == scene) & cells["policy"].isin(members["policy"])].groupby("policy")
        row[f"success in {scene}"] = interval(of_scene["success_rate"].agg("min", skipna=False)).text(".3g")
        row[f"time in {scene} [s]"] = interval(of_scene["time_to_goal"].mean()).text(".3g")
    return row


def pretraining_rows(policies: pd.DataFrame) -> list[Row]:
    """Every way in which a barrier was pretrained, compared with the defaults; none where none was evaluated."""
    found = policies[policies["stage"] == "pretrain_cbf"].sort_values("seed", kind="stable")
    rows: list[Row] = []
    default: dict[str, pd.Series] = {}
    for changed, group in found.groupby("pretraining"):  # the defaults, an empty text, come first
        members = group.drop_duplicates("seed", keep="last").set_index("seed")
        values = _pretraining_figures(members)
        default = default if changed else values
        row = {"change": f"`{changed}`" if changed else "none", "n": len(members), FLIGHTS: int(members[FLIGHTS].min())}
        row |= {title: interval(by_seed).text(".3g") for title, by_seed in values.items()}
        effects = {title: paired_difference(values[title], default[title]) for title in values if title in default}
        rows.append(row | {"effect": effect_text(effects) if changed and default else "–"})
    return rows


def _pretraining_figures(members: pd.DataFrame) -> dict[str, pd.Series]:
    """Title -> figure by seed; those of the barrier in cm, without seeds that lack them."""
    values = {title: members[members["cells"] > 0][title] for title in WITH_BARRIER}
    errors = {f"error on {name.removeprefix(ERROR)} [cm]": name for name in members if name.startswith(ERROR)}
    for title, name in (errors | {"margin [cm]": "margin"}).items():
        if members[name].notna().any():
            values[title] = 100.0 * members[name].dropna()
    return values


def run_tables(results: Results) -> dict[str, list[object]]:
    """Every run behind the page with its commit and duration, and the environments."""
    policies, runs = results.policies, results.runs.drop_duplicates("run_id").set_index("run_id")
    runs = runs.assign(minutes=(runs["seconds"] / 60.0).round(1))
    evaluated = [
        {"curriculum": f"`{policy.group}`", "seed": policy.seed, "blend": f"{policy.blend:g}"}
        | {"trained by": f"`{policy.trained}`", "evaluated by": f"`{policy.policy}`"}
        | dict(runs.loc[policy.trained, ["commit", "minutes"]])
        for policy in policies.itertuples()
    ]
    before = runs.drop(index=[*policies["trained"], *policies["policy"]]).reset_index()
    before = before.assign(run="`" + before["run_id"] + "`")[["stage", "run", "commit", "minutes"]]
    return {"evaluated": evaluated, "before": before.to_dict("records"), "environments": [*runs["platform"].unique()]}
