"""Success and constraint violation by curriculum and training seed, from the MLflow store, as a pandas table.

Reads the store of the working directory (./mlflow.db) or the one that MLFLOW_TRACKING_URI names.

    python examples/query_runs.py
"""

from __future__ import annotations

import mlflow
import pandas

COLUMNS = {
    "tags.drone_cbf.curriculum": "curriculum",
    "params.seed": "seed",
    "metrics.eval/success_rate": "success",
    "metrics.eval/max_violation": "violation [m/s]",
    "metrics.eval/collisions": "collisions",
}
"""Column of ``mlflow.search_runs`` -> column of the table. ``eval/*`` are the worst cells of an evaluation."""


def finished(stage: str) -> pandas.DataFrame:
    """All finished runs of one stage, in every experiment."""
    query = f"tags.`drone_cbf.stage` = '{stage}' and attributes.status = 'FINISHED'"
    return mlflow.search_runs(search_all_experiments=True, filter_string=query)


def table() -> pandas.DataFrame:
    """The latest evaluation of every curriculum and seed.

    What was trained is written on the safety run, what was measured on the evaluation, whose parent it is.
    """
    safety, evaluations = finished("safety"), finished("evaluate")
    if safety.empty or evaluations.empty:
        raise SystemExit("no finished evaluation in this store; make one first: mlflow run . -P curriculum=fast")
    trained = safety.set_index("run_id").reindex(columns=["tags.drone_cbf.curriculum", "params.seed"])
    measured = evaluations.sort_values("start_time").drop(columns=trained.columns, errors="ignore")
    joined = measured.join(trained, on="tags.drone_cbf.parent_run", how="inner")
    latest = joined.groupby(list(trained.columns)).tail(1)
    return latest.rename(columns=COLUMNS)[list(COLUMNS.values())].sort_values(["curriculum", "seed"])


if __name__ == "__main__":
    cells = table()
    print(cells.to_string(index=False))
    print("\nMean and worst over the seeds:")
    print(cells.groupby("curriculum")[["success", "violation [m/s]"]].agg(["mean", "min", "max"]).round(3))
