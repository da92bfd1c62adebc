"""Results pages of a real store, and what a test reads off them."""

from __future__ import annotations

import itertools
from pathlib import Path

import mlflow
from mlflow.tracking import MlflowClient

from projects.running.launch import launch

PLACES = tuple(itertools.product(("fixed_ring", "random_cloud"), (0.0, 0.02, 0.05), ("trained", "shifted", "random")))
FOREST = tuple(itertools.product(("forest",), (0.0, 0.02, 0.05), ("trained", "shifted", "random")))
GOOD = {
    "success_rate": 1.0, "collisions": 0.0, "rollouts": 1024.0, "collision_rate": 0.0, "max_violation": 0.01,
    "violation_p999": 0.0, "relax_rate": 1e-5, "final_distance_mean": 0.01, "final_distance_p95": 0.015,
    "time_to_goal": 4.0, "intervention_rate": 0.05,
}  # fmt: skip


def cells(
    changed: dict[tuple[str, float, str], dict[str, float]] | None = None,
    places: tuple[tuple[str, float, str], ...] = PLACES,
    **everywhere: float,
) -> list[dict[str, object]]:
    """A table of cells, all good but for what is ``changed`` in single ones; filter on, and a worse one off."""
    rows: list[dict[str, object]] = []
    for place in places:
        where = dict(zip(("scene", "noise", "goals"), place, strict=True))
        rows.append({**where, "filtered": True, **GOOD, **everywhere, **(changed or {}).get(place, {})})
        rows.append({**where, "filtered": False, **GOOD, "success_rate": 0.5, "collisions": 9.0})
    return rows


def written(experiment: str, tmp_path: Path, *arguments: str) -> str:
    """The page on an experiment, which is the artifact as well."""
    file = tmp_path / "pages" / "results.md"
    file.parent.mkdir(exist_ok=True)
    name = MlflowClient().get_experiment(experiment).name
    given = arguments or (f"--experiment={name}",)
    assert launch("results", [*given, f"--output={file}"]) == 0
    run = MlflowClient().search_runs([experiment], "tags.drone_cbf.stage = 'results'", max_results=1)[0]
    page = file.read_text()
    assert mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/results.md") == page
    return page


def section(page: str, title: str) -> list[dict[str, str]]:
    """The rows of all tables under a heading."""
    rows: list[dict[str, str]] = []
    heads: list[str] = []
    for line in page.partition(f"\n## {title}\n")[2].partition("\n## ")[0].splitlines():
        parts = [part.strip() for part in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if not parts:
            heads = []
        elif not heads:
            heads = parts
        elif not set(parts[0]) <= set(":-"):
            rows.append(dict(zip(heads, parts, strict=True)))
    return rows


def row_of(rows: list[dict[str, str]], **wanted: str) -> dict[str, str]:
    (row,) = [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]
    return row
