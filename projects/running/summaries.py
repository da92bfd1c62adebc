"""Markdown for the descriptions of runs: figures with units, evaluations beside their targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drone_cbf.reporting.tables import markdown_table
from drone_cbf.tracking.links import run_page
from drone_cbf.tracking.registry.gates import Check, judge
from drone_cbf.tracking.runs.nesting import ChildRun
from projects.inputs.gate_files import load_gates

ON, OFF = "eval", "eval_unfiltered"
"""First part of a metric's name with the filter on, and off."""
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
CELL_COLUMNS = (
    *("scene", "noise", "goals"),
    *("success_rate", "collisions", "max_violation", "relax_rate", "final_distance_p95"),
)
"""Of the table of cells, what fits the page beside MLflow's own column; the table artifact holds every figure."""


def report_table(title: str, report: Mapping[str, float]) -> str:
    """A heading and one row per figure."""
    rows = [{"figure": labelled(name), "value": as_shown(name, value)} for name, value in report.items()]
    return f"### {title}\n\n{markdown_table(rows)}"


def strata_table(title: str, strata: Mapping[str, Mapping[str, float]]) -> str:
    """A heading and one row per stratum."""
    rows = [
        {"stratum": stratum, **{labelled(name): as_shown(name, value) for name, value in report.items()}}
        for stratum, report in strata.items()
    ]
    return f"### {title}\n\n{markdown_table(rows)}"


def lineage_table(runs: Sequence[ChildRun], experiment_id: str) -> str:
    """The stages in order, each with a link to its run."""
    rows = [
        {
            "stage": run.stage,
            "run": f"[{run.run_id}]({run_page(run.run_id, experiment_id)})",
            "status": run.status,
            "seconds": round(run.seconds, 1),
        }
        for run in runs
    ]
    return f"### Lineage\n\n{markdown_table(rows)}"


def evaluation_summary(figures: Mapping[str, float], cells: Sequence[Mapping[str, object]]) -> str:
    """The verdict, the worst cells and the table of cells; ``figures``: all of the evaluation, by metric name."""
    filtered = [row for row in cells if row["filtered"]]
    rows = [
        {labelled(name): as_shown(name, row[name]) for name in CELL_COLUMNS if name in row} for row in filtered or cells
    ]
    state = "on" if filtered else "off"
    return f"{worst_cell_summary(figures)}\n\n### Cells, filter {state}\n\n{markdown_table(rows)}"


def worst_cell_summary(figures: Mapping[str, float]) -> str:
    """The verdict in a sentence, then every figure of the worst cells with its target; totals for counts."""
    return f"{verdict(figures)}\n\n### Worst cell\n\n{markdown_table(worst_cell_rows(figures))}"


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
    names = dict.fromkeys(name.partition("/")[2] for name in figures if name.startswith((f"{ON}/", f"{OFF}/")))
    rows = [_worst_cell_row(name, figures, checks) for name in names if "/" not in name]
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
    return {check.metric: check for check in judge(load_gates("default"), figures, None)}


def _worst_cell_row(name: str, figures: Mapping[str, float], checks: Mapping[str, Check]) -> dict[str, object]:
    titles = {ON: "filter on", OFF: "filter off"}
    found = {
        title: as_shown(name, figures[f"{prefix}/{name}"])
        for prefix, title in titles.items()
        if f"{prefix}/{name}" in figures
    }
    check = checks.get(f"{ON}/{name}")
    target = {"target": target_text(check), "met": "yes" if check.passed else "**no**"} if check else {}
    return {"figure": labelled(name), **found, **(target or ({"target": "", "met": ""} if checks else {}))}


def target_text(check: Check) -> str:
    """The threshold as a person reads it: ``≥ 0.98``."""
    limit = "–" if check.threshold is None else f"{check.threshold:g}"
    return f"{'≥' if check.greater_is_better else '≤'} {limit}"
