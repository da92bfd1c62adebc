"""Figures and evaluations as tables: Markdown for the descriptions of runs, plain columns for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from drone_cbf.reporting.tables import markdown_table, terminal_table
from drone_cbf.tracking.links import linked
from drone_cbf.tracking.queries.cells import PREFIX
from drone_cbf.tracking.registry.gates import Check, judge
from drone_cbf.tracking.runs.nesting import ChildRun
from projects.inputs.gate_files import load_gates

ON, OFF = PREFIX[True], PREFIX[False]
METRES = (
    *("final_distance_mean", "final_distance_p95", "final_distance_max", "smallest_clearance", "margin", "noise"),
    *("boundary_error_mean", "boundary_error_p99", "boundary_overestimate_p99", "value_error_mean"),
    *("audit_difference_mean", "audit_difference_std", "audit_difference_max"),
)
SPEEDS = ("final_speed_mean", "mean_speed", "max_violation", "violation_p999", "relax_mean")
UNITS = {**dict.fromkeys(METRES, "m"), **dict.fromkeys(SPEEDS, "m/s"), "time_to_goal": "s", "effort": "m²/s³"}
"""Figure -> its unit; the others are fractions and counts."""
COUNTS = ("collisions", "rollouts", "solver_failures", "states", "states_near_boundary")
"""Figures that are whole numbers."""
OF_SWARMS = "gcbf_safe_rate"
"""A figure that only evaluations of swarms have."""
CELL_COLUMNS = (
    *("scene", "noise", "goals", "speed", "drones"),
    *("success_rate", "collisions", "max_violation", "relax_rate", "final_distance_p95"),
)
"""Of the table of cells, what fits the page beside MLflow's own column; the table artifact holds every figure."""
SUMMED_UP = {"success_rate": "min", "collisions": "sum", "rollouts": "sum"}
SUMMED_UP |= {"max_violation": "max", "final_distance_mean": "max"}
"""Figure of a cell -> how the cells of one scene and noise level are summed up."""
SUMS = {"success": "{success_rate:.3g}", "collisions": "{collisions:.0f}/{rollouts:.0f}"}
SUMS |= {"violation [m/s]": "{max_violation:.3g}", "distance [m]": "{final_distance_mean:.3g}"}
"""Column in the terminal -> how these are written."""


def report_table(title: str, report: Mapping[str, float]) -> str:
    """A heading and one row per figure."""
    return _section(title, [{"figure": name, "value": value} for name, value in _labelled(report).items()])


def strata_table(title: str, strata: Mapping[str, Mapping[str, float]]) -> str:
    """A heading and one row per stratum."""
    return _section(title, [{"stratum": name, **_labelled(report)} for name, report in strata.items()])


def lineage_table(runs: Sequence[ChildRun], experiment_id: str) -> str:
    """The stages in order, each with a link to its run."""
    links = [linked(run.run_id, experiment_id) for run in runs]
    told = [{"status": run.status, "seconds": round(run.seconds, 1)} for run in runs]
    rows = [{"stage": run.stage, "run": link, **more} for run, link, more in zip(runs, links, told, strict=True)]
    return _section("Lineage", rows)


def evaluation_summary(figures: Mapping[str, float], cells: Sequence[Mapping[str, object]]) -> str:
    """The verdict, the worst cells and the table of cells; ``figures``: all of the evaluation, by metric name."""
    filtered = [row for row in cells if row["filtered"]]
    rows = [_labelled({name: row[name] for name in CELL_COLUMNS if name in row}) for row in filtered or cells]
    cells_table = _section(f"Cells, filter {'on' if filtered else 'off'}", rows)
    return f"{worst_cell_summary(figures)}\n\n{cells_table}"


def evaluation_text(cells: Sequence[Mapping[str, object]], figures: Mapping[str, float]) -> str:
    """For the terminal: scenes by noise with the filter on and off, then the worst cells beside their targets.

    Args:
        cells: scene, noise [m], ``filtered`` and the figures of each cell of the matrix.
        figures: the worst cell of each figure, by metric name.
    """
    place = ["scene", "noise", *(name for name in ("speed", "drones") if any(name in cell for cell in cells))]
    sums = pd.DataFrame(cells).groupby([*place, "filtered"], sort=False, dropna=False).agg(SUMMED_UP).reset_index()
    sums = sums.sort_values("filtered", ascending=False, kind="stable")  # filter on first
    texts = {name: [layout.format(**row) for row in sums.to_dict("records")] for name, layout in SUMS.items()}
    beside = (
        sums[place]
        .assign(**texts)
        .groupby(place, sort=False, dropna=False)
        .agg(" | ".join)
        .reset_index()
        .to_dict("records")
    )
    parts = [f"Worst over goals, by {', '.join(place)} (filter on | off)", terminal_table(beside)]
    if any(cell["filtered"] for cell in cells):
        checks = _checks(figures).values()
        limits = [target_text(check).replace("≥", ">=").replace("≤", "<=") for check in checks]
        targets = [
            {"metric": check.metric, "value": check.value, "target": limit, "": "pass" if check.passed else "FAIL"}
            for check, limit in zip(checks, limits, strict=True)
        ]
        parts += ["Targets (projects/gates.yaml) for the worst cell, filter on", terminal_table(targets)]
    return "\n\n".join(parts)


def worst_cell_summary(figures: Mapping[str, float]) -> str:
    """The verdict in a sentence, then every figure of the worst cells with its target; totals for counts."""
    return f"{verdict(figures)}\n\n{_section('Worst cell', worst_cell_rows(figures))}"


def verdict(figures: Mapping[str, float]) -> str:
    """Whether the targets of projects/gates.yaml are met, and how many flights collided."""
    checks = _checks(figures)
    missed = [f"`{name}`" for name, check in checks.items() if not check.passed]
    told = f"**Meets all {len(checks)} targets.**" if checks else ""
    if missed:
        told = f"**Misses {len(missed)} of {len(checks)} targets:** {', '.join(missed)}."
    counted = []
    for prefix, state in ((ON, "on"), (OFF, "off")):
        collisions, flights = (figures.get(f"{prefix}/{name}") for name in ("collisions", "rollouts"))
        if collisions is not None and flights is not None:
            counted.append(f"{collisions:,.0f} in {flights:,.0f} flights with the filter {state}")
    return f"{told} Collisions: {', '.join(counted)}.".strip() if counted else told


def worst_cell_rows(figures: Mapping[str, float]) -> list[dict[str, object]]:
    """One row per figure of the worst cells, filter on beside off, those with a target first."""
    checks = _checks(figures)
    rows: list[dict[str, object]] = []
    parts = [name.split("/") for name in figures]
    for name in dict.fromkeys(words[1] for words in parts if len(words) == 2 and words[0] in (ON, OFF)):
        found = {title: figures.get(f"{prefix}/{name}") for prefix, title in ((ON, "filter on"), (OFF, "filter off"))}
        row = {title: as_shown(name, value) for title, value in found.items() if value is not None}
        if checks:
            check = checks.get(f"{ON}/{name}")
            row["target"] = target_text(check) if check else ""
            row["met"] = ("yes" if check.passed else "**no**") if check else ""
        rows.append({"figure": labelled(name), **row})
    return sorted(rows, key=lambda row: not row.get("target"))  # stable


def labelled(name: str) -> str:
    """The figure's name with its unit."""
    return f"{name} [{UNITS[name]}]" if name in UNITS else name


def as_shown(name: str, value: object) -> object:
    """A count as a whole number."""
    return int(value) if name in COUNTS and isinstance(value, float) and value.is_integer() else value


def _checks(figures: Mapping[str, float]) -> dict[str, Check]:
    """The shipped gate's absolute thresholds, by metric; none where nothing flew with the filter on."""
    if not any(name.startswith(f"{ON}/") for name in figures):
        return {}
    gates = load_gates("default")
    gates = gates.for_evaluation("", swarm=True) if f"{ON}/{OF_SWARMS}" in figures else gates
    return {check.metric: check for check in judge(gates, figures, None)}


def target_text(check: Check) -> str:
    """The threshold as a person reads it: ``≥ 0.98``."""
    limit = "–" if check.threshold is None else f"{check.threshold:g}"
    return f"{'≥' if check.greater_is_better else '≤'} {limit}"


def _labelled(figures: Mapping[str, object]) -> dict[str, object]:
    return {labelled(name): as_shown(name, value) for name, value in figures.items()}


def _section(title: str, rows: Sequence[Mapping[str, object]]) -> str:
    return f"### {title}\n\n{markdown_table(rows)}"
