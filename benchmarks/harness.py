"""One command, one table: how fast and how exact the parts are, beside their peers.

    make bench                                                installs the extra 'bench', then measures every section
    python -m benchmarks.harness --sections filter --batches 1,1024

Times are medians of interleaved repeats; ratios are between figures of one run; what the first call takes longer, which
is compiling, stands apart. The table is printed, written as Markdown and JSON, and stored in MLflow. Peers that are not
installed, or do not work with these versions, say so in their row.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlflow
from matplotlib.figure import Figure

from benchmarks import (
    decision_section,
    filter_section,
    physics_section,
    rollout_section,
    rows_section,
    swarm_section,
    training_section,
)
from benchmarks.timing import machine
from drone_cbf.reporting.tables import markdown_table
from drone_cbf.tracking.runs.tracking_store import prepare_store

SECTIONS: dict[str, tuple[Callable[..., list[dict[str, Any]]], tuple[str, ...]]] = {
    "decision": (decision_section.measure, decision_section.PACKAGES),
    "filter": (filter_section.measure, filter_section.PACKAGES),
    "physics": (physics_section.measure, physics_section.PACKAGES),
    "rollout": (rollout_section.measure, rollout_section.PACKAGES),
    "rows": (rows_section.measure, rows_section.PACKAGES),
    "swarms": (swarm_section.measure, swarm_section.PACKAGES),
    "training": (training_section.measure, training_section.PACKAGES),
}
"""Name -> what measures it, and the packages whose versions matter."""
FIGURES: dict[str, Callable[[Sequence[dict[str, Any]]], Figure]] = {"swarms": swarm_section.figure}
"""Name of a section -> what draws its rows, where a picture says more than the table."""
EXPERIMENT = "drone_cbf benchmarks"


def page(section: str, rows: Sequence[dict[str, Any]], about: dict[str, str]) -> str:
    """Markdown: the machine, and a table for each batch."""
    parts = [f"## {section}", ", ".join(f"{name} {value}" for name, value in about.items())]
    for batch in dict.fromkeys(row["batch"] for row in rows):
        own = [{name: value for name, value in row.items() if name != "batch"} for row in rows if row["batch"] == batch]
        parts += [f"### Batch {batch:,}", markdown_table(own)]
    return "\n\n".join(parts) + "\n"


def store(section: str, text: str, content: dict[str, Any]) -> str:
    """Logs table and figures as a run; its ID."""
    prepare_store()
    mlflow.set_experiment(EXPERIMENT)
    with mlflow.start_run(run_name=f"bench-{section}") as run:
        mlflow.log_text(text, f"{section}.md")
        mlflow.log_text(json.dumps(content, indent=1), f"{section}.json")
        if section in FIGURES:
            mlflow.log_figure(FIGURES[section](content["rows"]), f"{section}.png")
        mlflow.log_params(content["machine"])
        for row in content["rows"]:
            place = f"{section}/{row.get('solver') or row['model']}".replace(" ", "_")
            figures = {name: value for name, value in row.items() if isinstance(value, float | int) and name != "batch"}
            named = {f"{place}/{metric_name(name)}": value for name, value in figures.items()}
            mlflow.log_metrics(named, step=row["batch"])
    return str(run.info.run_id)


def metric_name(column: str) -> str:
    """Of a column: without its unit, and without what MLflow refuses."""
    return column.split(" [")[0].replace(" / ", "_to_").replace(",", "").replace(" ", "_")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", default=",".join(SECTIONS), help="separated by commas (default: %(default)s)")
    parser.add_argument("--batches", default="1,64,1024,16384", help="batch sizes (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=9, help="timed calls for each figure (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each figure at most (default: %(default)s)")
    parser.add_argument("--output", default="build/bench", help="folder for the tables (default: %(default)s)")
    parser.add_argument("--keep-out", action="store_true", help="store nothing in MLflow")
    arguments = parser.parse_args()
    sections = arguments.sections.split(",")
    if unknown := [name for name in sections if name not in SECTIONS]:
        parser.error(f"--sections = {unknown[0]} is unknown; give some of {', '.join(SECTIONS)}")
    batches = [int(text) for text in arguments.batches.split(",")]
    if min(batches) < 1 or arguments.repeats < 1:
        parser.error("--batches and --repeats must be at least 1")
    for name in sections:
        measure, packages = SECTIONS[name]
        about = machine(packages)
        begun = time.perf_counter()
        rows = measure(batches, arguments.repeats, arguments.seconds)
        about |= {"load after": f"{os.getloadavg()[0]:.1f}", "took": f"{time.perf_counter() - begun:.0f} s"}
        text, content = page(name, rows, about), {"section": name, "machine": about, "rows": rows}
        folder = Path(arguments.output)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.md").write_text(text)
        (folder / f"{name}.json").write_text(json.dumps(content, indent=1))
        if name in FIGURES:
            FIGURES[name](rows).savefig(folder / f"{name}.png", dpi=120)
        print(text)
        if not arguments.keep_out:
            print(f"stored as run {store(name, text, content)}")


if __name__ == "__main__":
    main()
