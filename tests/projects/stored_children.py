"""In place of real children: runs in the store with the settings and digests of real ones, which end as a test says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import yaml
from mlflow.tracking import MlflowClient

from drone_cbf.tracking.checkpoints.store import save_checkpoint
from drone_cbf.tracking.queries.records import Record, nested, read
from drone_cbf.tracking.runs.nesting import StageFailed
from drone_cbf.tracking.runs.stage_run import StageRun
from projects.cli.arguments import parse
from projects.inputs.digests import config_digest
from projects.running.entry_points import ENTRY_POINTS

INTERRUPTED = "interrupted (SIGTERM)"


@dataclass
class StoredChildren:
    """``run_child`` stands for the function of that name."""

    experiment: str
    ends: dict[tuple[str, int], str] = field(default_factory=dict)
    """Stage and seed -> reason for which that run fails, once; ``interrupted`` leaves a state to go on from."""
    given: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Every child that was started."""

    def run_child(
        self, run: StageRun, project: Path, entry: str, parameters: Mapping[str, str], name: str | None = None
    ) -> Any:
        self.given.append((entry, dict(parameters)))
        if resumed := parameters.get("resume_run"):
            child = resumed
            failed = self._resume(read(resumed), entry)
        elif "seeds" in parameters:
            child, failed = self._population(run.run_id, entry, parameters, name)
        else:
            child = self._new(run.run_id, entry, parameters, name)
            failed = self._end(child, entry)
        if failed:
            MlflowClient().set_tag(child, "drone_cbf.failure", failed)
            MlflowClient().set_terminated(child, "KILLED" if failed == INTERRUPTED else "FAILED")
            raise StageFailed(f"stage {entry} failed", failed, child)
        MlflowClient().set_terminated(child)
        return SimpleNamespace(run_id=child)

    def _population(self, above: str, entry: str, parameters: Mapping[str, str], name: str | None) -> tuple[str, str]:
        tags = {"drone_cbf.stage": "population", "drone_cbf.trains": entry, "mlflow.parentRunId": above}
        client = MlflowClient()
        run_id = client.create_run(self.experiment, tags=tags, run_name=name).info.run_id
        shared = {one: text for one, text in parameters.items() if one != "seeds"}
        given = {seed: {**shared, "seed": seed} for seed in parameters["seeds"].split(",")}
        client.log_text(run_id, json.dumps({"members": given}), "plan.json")
        members = [self._new(run_id, entry, own) for own in given.values()]
        return run_id, max([self._end(member, entry) for member in members])

    def _resume(self, run: Record, entry: str) -> str:
        if run.stage != "population":
            return self._end(run.run_id, entry)
        return max([self._end(one.run_id, entry) for one in nested(run) if one.status != "FINISHED"])

    def _new(self, above: str, entry: str, parameters: Mapping[str, str], name: str | None = None) -> str:
        point, client = ENTRY_POINTS[entry], MlflowClient()
        words = parse(entry, point.parameters, [f"--{one}={text}" for one, text in parameters.items()])
        parent = getattr(words.parameters, "parent_run", "")
        inherited = yaml.safe_load(mlflow.artifacts.load_text(f"runs:/{parent}/config.yaml")) if parent else {}
        system = point.system_of(words.parameters, inherited.get("system"), words.system)
        digest = config_digest(entry, words.parameters, system)
        tags = {"drone_cbf.stage": entry, "drone_cbf.config_digest": digest, "mlflow.parentRunId": above}
        run_id = client.create_run(self.experiment, tags=tags, run_name=name).info.run_id
        client.log_param(run_id, "seed", words.parameters.seed)
        client.log_text(run_id, yaml.safe_dump({"system": system.model_dump(mode="json")}), "config.yaml")
        return run_id

    def _end(self, run_id: str, entry: str) -> str:
        """Ends the run; why it failed."""
        client = MlflowClient()
        failed = self.ends.pop((entry, read(run_id).seed), "")
        if failed:
            client.set_tag(run_id, "drone_cbf.failure", failed)
        if failed == INTERRUPTED:
            save_checkpoint(run_id, "progress_3", {"step": 3})
        client.set_terminated(run_id, ("KILLED" if failed == INTERRUPTED else "FAILED") if failed else "FINISHED")
        return failed
