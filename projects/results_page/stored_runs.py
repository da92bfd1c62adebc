"""Reads evaluated policies for a results page from the store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from drone_cbf.config import SystemConfig
from drone_cbf.errors import LineageError
from drone_cbf.tracking.queries.records import Record, history, read, settings, stored_curriculum, table
from drone_cbf.tracking.queries.selection import Evaluated, evaluated
from drone_cbf.tracking.runs.lineage import ancestry
from drone_cbf.tracking.runs.stage_run import flatten
from drone_cbf.tracking.tags import DIRTY_TAG, versions_of
from projects.cli.stage_parameters import EfficiencyParameters, PretrainParameters
from projects.comparison.comparison import compared_settings, curriculum_content, group_names
from projects.results_page.data import COLUMNS, ERROR, Results, results_of
from projects.results_page.figures import Row
from projects.results_page.joint_training import METRICS, loss_changes, success_counts

BARRIER_ERROR = "eval/boundary_error_mean"
"""Metric of a safety run [m]."""
PRETRAINED_ERROR = "/boundary_error_mean"
"""Suffix of the metrics of a pretrain_cbf run: ``final/boundary_error_mean`` on flights, and
``final/<stratum>/boundary_error_mean``."""


def stored_results(records: Sequence[Record]) -> Results:
    """The evaluated policies among and behind ``records``, with a row for each of their evaluations."""
    tables: dict[str, list[Row]] = {name: [] for name in COLUMNS}
    try:
        pairs = evaluated(records, strict=False) if records else []
    except LineageError:  # none is evaluated
        pairs = []
    # Cells at speeds or with numbers of drones of their own are no cells of the benchmark.
    told = {pair.evaluation.run_id: settings(pair.evaluation.run_id).get("parameters", {}) for pair in pairs}
    pairs = [pair for pair in pairs if not any(told[pair.evaluation.run_id].get(axis) for axis in ("speeds", "drones"))]
    trained = {pair.trained.run_id: pair.trained for pair in pairs}
    settings_of = {run_id: compared_settings(record) for run_id, record in trained.items()}
    groups = group_names(list(trained.values()), settings_of)
    for pair in pairs:
        run_id, key = pair.trained.run_id, {"policy": pair.evaluation.run_id}
        curriculum, cells = stored_curriculum(run_id), table(pair.evaluation.run_id, "tables/cells.json")
        updates = history(run_id, METRICS) if curriculum else []
        policy = key | {"group": groups[run_id], "rollouts": sum(cell["rollouts"] for cell in cells)}
        policy |= _policy(pair, settings_of[run_id], curriculum) | success_counts(updates, curriculum)
        tables["policies"].append(dict.fromkeys(COLUMNS["policies"]) | policy)
        shown = [cell for cell in cells if cell["filtered"] is (pair.trained.stage != "efficiency")]
        tables["cells"] += [key | {name: cell.get(name) for name in COLUMNS["cells"][1:]} for cell in shown]
        tables["losses"] += [key | change for change in loss_changes(updates, curriculum)]
        tables["runs"] += [key | run for run in _runs(pair)]
    return results_of(tables)


def _policy(pair: Evaluated, compared: Mapping[str, str], curriculum: Mapping[str, Any]) -> Row:
    trained, config = pair.trained, settings(pair.trained.run_id)
    parameters = flatten(settings(pair.evaluation.run_id).get("parameters", {}))
    barrier, physics = config["system"]["barrier"], config["system"]["physics"]
    content = json.dumps([trained.stage, compared, curriculum_content(curriculum)], sort_keys=True)
    return {
        "settings": hashlib.sha256(content.encode()).hexdigest()[:6],
        "seed": trained.seed,
        **{name: float(parameters.get(name, default)) for name, default in (("blend", 1.0), ("augment", 0.0))},
        "stage": trained.stage,
        "curriculum": str(curriculum.get("name", trained.curriculum)),
        "description": str(curriculum.get("description", "")),
        "barrier": barrier["kind"],
        "class_k_gain": barrier["class_k_gain"],
        "gradient_decay": physics["gradient_decay"],
        "horizon": config.get("parameters", {}).get("horizon"),
        "barrier_error": trained.metrics.get(BARRIER_ERROR),
        "trained": trained.run_id,
        "evaluated": pair.evaluation.started.isoformat(),
        "parameters": json.dumps(parameters),
        **(_pretraining(trained, compared) if trained.stage == "pretrain_cbf" else {}),
    }


def _pretraining(trained: Record, compared: Mapping[str, str]) -> Row:
    """Settings that differ from the defaults, ``name=value``, and errors and margin of the pretrained barrier [m]."""
    earlier = {"init_run": "an earlier run"} if compared.get("init_run") else {}  # each seed has its own
    own = {
        "parameters": PretrainParameters(parent_run="any").model_dump(),
        "system": SystemConfig().model_dump(mode="json"),
    }
    before = {f"efficiency.{name}": text for name, text in flatten(EfficiencyParameters().model_dump()).items()}
    defaults = flatten(own) | before
    changed = [f"{name}={text}" for name, text in sorted({**compared, **earlier}.items()) if text != defaults.get(name)]
    errors = {
        ERROR + (name.removeprefix("final").removesuffix(PRETRAINED_ERROR).strip("/") or "flights"): value
        for name, value in trained.metrics.items()
        if name.startswith("final/") and name.endswith(PRETRAINED_ERROR)
    }
    return {"pretraining": ", ".join(changed), "margin": trained.metrics.get("final/margin"), **errors}


def _runs(pair: Evaluated) -> Iterator[Row]:
    """From the first stage to the training of the policy and its evaluation."""
    lineage = [read(run.info.run_id) for run in reversed(list(ancestry(pair.trained.run_id)))]
    for record in [*lineage, pair.evaluation]:
        dirty = " with uncommitted changes" if record.tags.get(DIRTY_TAG) == "true" else ""
        versions = ", ".join(f"{name} {version}" for name, version in sorted(versions_of(record.tags).items()))
        device = record.tags.get("drone_cbf.device", "device unknown")
        yield {
            "run_id": record.run_id,
            "stage": record.stage,
            "commit": f"`{record.commit[:10] or 'unknown'}`{dirty}",
            "platform": f"{device}; {versions or 'versions unknown'}",
            "seconds": record.seconds or 0.0,
        }
