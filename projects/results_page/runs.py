"""Reads what a results page is about from the store: everything that the page says, at once."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from drone_cbf.config import SystemConfig
from drone_cbf.errors import LineageError
from drone_cbf.tracking.queries.records import Record, history, read, settings, stored_curriculum, table
from drone_cbf.tracking.queries.selection import Evaluated, evaluated
from drone_cbf.tracking.runs.lineage import ancestry
from drone_cbf.tracking.runs.stage_run import flatten
from drone_cbf.tracking.tags import DIRTY_TAG, versions_of
from projects.cli.stage_parameters import EfficiencyParameters, PretrainParameters
from projects.comparison.comparison import asked_of, group_names, settings_told
from projects.results_page.learning import METRICS, held_out_changes, loss_changes, success_kept, weighted
from projects.results_page.policies import Policy, Pretraining, RunNote, with_nan

BARRIER_ERROR = "eval/boundary_error_mean"
"""Metric of a safety run [m]."""
PRETRAINED_ERROR = "/boundary_error_mean"
"""How the metrics of a pretrain_cbf run that tell the same end: ``final/boundary_error_mean`` on flights, and
``final/<stratum>/boundary_error_mean``."""


def recorded_policies(records: Sequence[Record]) -> list[Policy]:
    """The evaluated policies among and behind ``records``; one that was evaluated several times is as many entries."""
    try:
        pairs = evaluated(records, strict=False)
    except LineageError:
        return []
    trained = {pair.trained.run_id: pair.trained for pair in pairs}
    told = {run_id: settings_told(record) for run_id, record in trained.items()}
    names = group_names(list(trained.values()), told)
    return [_policy(pair, names[pair.trained.run_id], told[pair.trained.run_id]) for pair in pairs]


def _policy(pair: Evaluated, group: str, told: Mapping[str, str]) -> Policy:
    trained = pair.trained
    flown_with = flatten(settings(pair.evaluation.run_id).get("parameters", {}))
    config = settings(trained.run_id)
    system, horizon = config["system"], config.get("parameters", {}).get("horizon")
    curriculum = stored_curriculum(trained.run_id)
    rows = history(trained.run_id, METRICS) if curriculum else []
    taught = weighted(curriculum)
    return Policy(
        group=group,
        settings=_digest(trained.stage, told, curriculum),
        seed=trained.seed,
        blend=float(flown_with.get("blend", 1.0)),
        runs=_runs(pair),
        evaluated=pair.evaluation.started,
        flown_with=flown_with,
        cells=[with_nan(cell) for cell in table(pair.evaluation.run_id, "tables/cells.json")],
        curriculum=str(curriculum.get("name", trained.curriculum)),
        description=str(curriculum.get("description", "")),
        barrier=(str(system["barrier"]["kind"]), float(system["barrier"]["class_k_gain"])),
        gradient_decay=float(system["physics"]["gradient_decay"]),
        horizon=None if horizon is None else int(horizon),
        losses=loss_changes(rows, taught),
        success=success_kept(rows, curriculum),
        held_out=held_out_changes(rows, taught),
        barrier_error=trained.metrics.get(BARRIER_ERROR),
        pretraining=_pretraining(trained, told) if trained.stage == "pretrain_cbf" else None,
    )


def _pretraining(trained: Record, told: Mapping[str, str]) -> Pretraining:
    own = told | ({"init_run": "an earlier run"} if told.get("init_run") else {})  # whichever: each seed has its own
    plain = _plain_settings()
    changed = [f"{name}={text}" for name, text in sorted(own.items()) if text != plain.get(name)]
    errors = {
        name.removeprefix("final").removesuffix(PRETRAINED_ERROR).strip("/") or "flights": value
        for name, value in trained.metrics.items()
        if name.startswith("final/") and name.endswith(PRETRAINED_ERROR)
    }
    margin = trained.metrics.get("final/margin", math.nan)
    return Pretraining(changed=", ".join(changed), errors=errors, margin=margin)


def _plain_settings() -> dict[str, str]:
    """What ``settings_told`` says of a pretrained barrier for which nothing was asked."""
    asked = PretrainParameters(parent_run="any").model_dump()
    own = flatten({"parameters": asked, "system": SystemConfig().model_dump(mode="json")})
    before = flatten(EfficiencyParameters().model_dump())
    return own | {f"efficiency.{name}": text for name, text in before.items()}


def _digest(stage: str, told: Mapping[str, str], curriculum: Mapping[str, Any]) -> str:
    """Of all settings but the seed, and of what the curriculum asks for."""
    content = json.dumps([stage, told, asked_of(curriculum)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:6]


def _runs(pair: Evaluated) -> tuple[RunNote, ...]:
    before = [run.info.run_id for run in ancestry(pair.trained.run_id)]  # the policy's own first
    return tuple(_note(record) for record in [*(read(run_id) for run_id in reversed(before)), pair.evaluation])


def _note(record: Record) -> RunNote:
    changed = " with uncommitted changes" if record.tags.get(DIRTY_TAG) == "true" else ""
    return RunNote(
        run_id=record.run_id,
        stage=record.stage,
        commit=f"`{record.commit[:10] or 'unknown'}`{changed}",
        made_on=_environment(record),
        seconds=record.seconds or 0.0,
    )


def _environment(record: Record) -> str:
    versions = [f"{name} {version}" for name, version in sorted(versions_of(record.tags).items())]
    device = record.tags.get("drone_cbf.device", "device unknown")
    return f"{device}; {', '.join(versions) or 'versions unknown'}"
