"""The benchmark of a results page: 18 cells, held against the targets of DESIGN 5 and beside the original's figures."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from drone_cbf.evaluation.statistics import rate_upper_bound
from drone_cbf.reporting.tables import markdown_table, percent
from projects.results_page.policies import Cell, Policy

PLACES = tuple(itertools.product(("fixed_ring", "random_cloud"), (0.0, 0.02, 0.05), ("trained", "shifted", "random")))
"""Scene, noise [m] and goals of each cell (DESIGN 5)."""
NOT_MEASURED = "not measured"
ENOUGH = 10_000
"""Flights without a collision that are asked for, over all cells and seeds."""
ENOUGH_IN_A_CELL = 1_000
"""Flights of one policy in one cell, likewise."""
LONGEST = 6.0
"""Minutes that the joint training of one seed may take on two cores, likewise."""


@dataclass(frozen=True)
class Target:
    """One line of DESIGN 5."""

    title: str
    original: str
    """The original team's best, from its work log."""
    limit: float
    wanted: str
    column: str
    """Of the table of cells."""
    scale: float = 1.0
    """From the column to the unit of the title."""
    quiet: bool = False
    """Only the cells without noise count."""
    largest_is_worst: bool = True


TARGETS = (
    Target("success rate", "100 % on its one goal, 0 % shifted; 78–86 % at zero noise with its safety layer", 0.995,
           "≥ 99.5 % in every cell", "success_rate", largest_is_worst=False),
    Target("largest violation at zero noise [m/s]", "24 fixed, 69 random", 0.05, "≤ 0.05", "max_violation",
           quiet=True),
    Target("largest violation at every noise [m/s]", "24 fixed, 69 random", 1.0, "≤ 1.0", "max_violation"),
    Target("relaxed steps", "0.82–0.95", 0.001, "≤ 0.001", "relax_rate"),
    Target("final distance, mean, at zero noise [cm]", "1.5", 1.5, "≤ 1.5", "final_distance_mean", 100.0, quiet=True),
    Target("final distance, 95 % quantile, at zero noise [cm]", "1.6", 2.0, "≤ 2", "final_distance_p95", 100.0,
           quiet=True),
)  # fmt: skip


def benchmark_section(policies: Sequence[Policy], curriculum: str) -> str:
    """Markdown: targets, then cell by cell; ``policies``: one group, evaluated with the neural barrier alone."""
    targets = markdown_table([*(target_row(target, policies) for target in TARGETS), *_counted(policies)])
    seeds = ", ".join(str(policy.seed) for policy in policies) or "none"
    return (
        f"## The benchmark\n\nPolicies of the curriculum `{curriculum}`, each flying every cell with the neural "
        f"barrier alone (blend 1); training seeds: {seeds}. The worst is over all cells and seeds.\n\n{targets}\n\n"
        f"Cell by cell, over the seeds (mean / worst):\n\n{markdown_table(cell_rows(policies))}"
    )


def target_row(target: Target, policies: Sequence[Policy]) -> dict[str, object]:
    """One target beside the original's figure and ours; ``met`` is open while a cell is not measured."""
    places = [place for place in PLACES if not target.quiet or place[1] == 0.0]
    found = [cell_at(policy, place) for policy in policies for place in places]
    values = [cell[target.column] * target.scale for cell in found if cell is not None]
    row: dict[str, object] = {"metric": target.title, "original's best": target.original}
    if not values:
        return {**row, "ours, worst": NOT_MEASURED, "target": target.wanted, "met": NOT_MEASURED}
    worst = max(values) if target.largest_is_worst else min(values)
    fails = not (worst <= target.limit if target.largest_is_worst else worst >= target.limit)  # NaN fails
    so_far = f"in the {len(values)} of {len(found)} cells measured"
    met = "**no**" if fails else "yes" if len(values) == len(found) else so_far
    shown = percent(worst) if target.column == "success_rate" else f"{worst:.3g}"
    return {**row, "ours, worst": shown, "target": target.wanted, "met": met}


def _counted(policies: Sequence[Policy]) -> list[dict[str, object]]:
    """Collisions with their bound, flights in a cell, and time of training."""
    cells = [cell for policy in policies for place in PLACES if (cell := cell_at(policy, place)) is not None]
    ours, met = _counts(policies, cells) if cells else ([NOT_MEASURED] * 3, [NOT_MEASURED] * 3)
    lines = (
        ("collisions", NOT_MEASURED, f"0 in {ENOUGH:,} flights"),
        ("flights of a policy in a cell", "16–200", f"≥ {ENOUGH_IN_A_CELL:,}"),
        ("training of one seed [min]", "days", f"≤ {LONGEST:g}"),
    )
    return [
        {"metric": title, "original's best": original, "ours, worst": figure, "target": wanted, "met": judged}
        for (title, original, wanted), figure, judged in zip(lines, ours, met, strict=True)
    ]


def _counts(policies: Sequence[Policy], cells: Sequence[Mapping[str, float]]) -> tuple[list[str], list[str]]:
    """Collisions, flights in a cell and time of training: as text, and whether that is enough."""
    collisions, flights = (int(sum(cell[name] for cell in cells)) for name in ("collisions", "rollouts"))
    bound = largest_bound([measured_cells(policy) for policy in policies])
    fewest = int(min(cell["rollouts"] for cell in cells))
    longest = max(policy.minutes("safety") for policy in policies)
    shared = max(policy.minutes() for policy in policies)
    ours = [
        f"{collisions} in {flights:,}; rate of each policy below {bound:.2g} (99 %, Clopper–Pearson)",
        f"{fewest:,}",
        f"{longest:.1f} (with the shared stages before it {shared:.1f})",
    ]
    enough = (collisions == 0 and flights >= ENOUGH, fewest >= ENOUGH_IN_A_CELL, longest <= LONGEST)
    return ours, ["yes" if passes else "**no**" for passes in enough]


def largest_bound(flown: Sequence[Sequence[Mapping[str, float]]]) -> float:
    """The largest of several policies' bounds of a collision rate, each over its own cells; without cells, none.

    Never pooled: all policies fly the same scenes, so their flights together are not as many independent trials.
    """
    names = ("collisions", "rollouts")
    counts = [[int(sum(cell[name] for cell in cells)) for name in names] for cells in flown if cells]
    return max(rate_upper_bound(collisions, flights) for collisions, flights in counts)


def measured_cells(policy: Policy) -> list[Cell]:
    """Those of the 18 cells that the policy has flown."""
    return [cell for place in PLACES if (cell := cell_at(policy, place)) is not None]


def cell_rows(policies: Sequence[Policy]) -> list[dict[str, object]]:
    """One row for each of the 18 cells; a cell that nobody flew says so."""
    return [_cell_row(place, policies) for place in PLACES]


def _cell_row(place: tuple[str, float, str], policies: Sequence[Policy]) -> dict[str, object]:
    scene, noise, goals = place
    cells = [cell for policy in policies if (cell := cell_at(policy, place)) is not None]
    row: dict[str, object] = {"scene": f"`{scene}`", "noise [m]": f"{noise:g}", "goals": goals}
    if not cells:
        return {**row, "seeds": "0", "success": NOT_MEASURED}
    collisions, flights = (int(sum(cell[name] for cell in cells)) for name in ("collisions", "rollouts"))
    rates = [cell["success_rate"] for cell in cells]
    return {
        **row,
        "seeds": str(len(cells)),
        "success": f"{percent(sum(rates) / len(rates))} / {percent(min(rates))}",
        "collisions": f"{collisions} in {flights:,}",
        "99 % bound": f"{largest_bound([[cell] for cell in cells]):.2g}",
        "relaxed steps": _pair(cells, "relax_rate"),
        "violation, largest [m/s]": _pair(cells, "max_violation"),
        "violation, 99.9 % [m/s]": _pair(cells, "violation_p999"),
        "final distance, mean [cm]": _pair(cells, "final_distance_mean", 100.0),
        "final distance, 95 % [cm]": _pair(cells, "final_distance_p95", 100.0),
    }


def _pair(cells: Sequence[Cell], column: str, scale: float = 1.0) -> str:
    values = [cell[column] * scale for cell in cells]
    return f"{sum(values) / len(values):.2g} / {max(values):.2g}"


def cell_at(policy: Policy, place: tuple[str, float, str]) -> Mapping[str, float] | None:
    """The filtered cell of an evaluation at ``place``; None: it was not flown."""
    scene, noise, goals = place
    for cell in policy.flown():
        if cell["scene"] == scene and abs(cell["noise"] - noise) < 1e-9 and cell["goals"] == goals:
            return cell
    return None
