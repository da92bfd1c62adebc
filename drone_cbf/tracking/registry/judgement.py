"""What the gate judges, what it is compared with, and where the verdict is left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.tracking import MlflowClient

from drone_cbf.errors import ConfigError, LineageError
from drone_cbf.tracking.checkpoints.certificates import recorded_system
from drone_cbf.tracking.queries.cells import evaluation_figures
from drone_cbf.tracking.queries.evidence import EVALUATION_TAG, conditions, differences, evaluations_of, find_evaluation
from drone_cbf.tracking.registry.gates import GATE_TAG
from drone_cbf.tracking.registry.versions import TRAINING_TAG, champion, promote, run_of, versions_of
from drone_cbf.tracking.runs.claims import exclusive, model_tags
from drone_cbf.tracking.runs.lineage import get_run, load_config
from drone_cbf.tracking.runs.presentation import set_tags
from drone_cbf.tracking.runs.stage_run import flatten

_LONGEST_TAG = 4000


@dataclass(frozen=True)
class Judged:
    """An evaluation before the gate."""

    run_id: str
    experiment_id: str
    sensor: str  # ``sensor.kind`` with which it was flown
    metrics: Mapping[str, float]  # All its figures by metric name, also those that only its table of cells holds
    versions: list[ModelVersion]  # Registered versions for which this evaluation speaks, newest first
    champion_run: str | None  # The champion's evaluation under the same conditions; None: there is no other champion
    swarm: bool  # Whether several drones flew at once
    champion_version: str  # The champion at the time of judging; empty: there was none


def find_judged(model: str, run_id: str, promoting: bool) -> Judged:
    """The evaluation that ``run_id`` is or leads to, or that of the champion of ``model`` where it is empty.

    Raises LineageError if there is none, or it is to be promoted and no version is registered for it, and ConfigError
    if the champion was not evaluated under the same conditions, so that it cannot be compared.
    """
    best = champion(model)
    if not run_id:
        if best is None:
            command = f"mlflow run . -e gate -P run=<evaluate run> -P model={model} -P promote=true"
            raise LineageError(f"{model} has no champion yet; promote an evaluated policy: {command}")
        run_id = run_of(best, EVALUATION_TAG)
    evaluation = find_evaluation(run_id)
    own, experiment = evaluation.info.run_id, evaluation.info.experiment_id
    versions = versions_of(model, own)
    if promoting and not versions:
        command = f"mlflow run . -e register -P run={own} -P model={model}"
        raise LineageError(
            f"run {own} is registered as no version of {model}, so none can be promoted; register it first: {command}"
        )
    rival = _rival(best, evaluation) if best is not None and run_of(best, EVALUATION_TAG) != own else None
    system = recorded_system(load_config(own), f"config.yaml of run {own}")
    figures = evaluation_figures(evaluation)
    version = str(best.version) if best else ""
    swarm, champion_run = system.scene.drones > 1, rival.info.run_id if rival else None
    return Judged(own, experiment, system.sensor.kind, figures, versions, champion_run, swarm, version)


def champion_metrics(judged: Judged) -> Mapping[str, float] | None:
    """Figures of the champion under the same conditions, if there is one to compare with."""
    return evaluation_figures(get_run(judged.champion_run, "run")) if judged.champion_run else None


def mark(judged: Judged, verdict: str, reason: str, gate_run: str, gates: str) -> None:
    """Tags the judged run and its registered versions with the verdict and the digest of the ``gates`` behind it."""
    tags = {GATE_TAG: verdict, f"{GATE_TAG}_reason": reason[:_LONGEST_TAG], f"{GATE_TAG}_run": gate_run}
    tags |= {f"{GATE_TAG}_digest": gates}
    set_tags(judged.run_id, tags)
    for version, (key, text) in product(judged.versions, tags.items()):
        MlflowClient().set_model_version_tag(version.name, version.version, key, text)


def promote_judged(judged: Judged) -> str:
    """Makes the newest version of the judged run the champion, and returns its number.

    Raises LineageError if another version has become the champion since the run was judged against the former one.
    """
    chosen = judged.versions[0]
    with exclusive(model_tags(chosen.name), f"the champion of {chosen.name}"):
        now = champion(chosen.name)
        version = str(now.version) if now else ""
        if version != judged.champion_version:
            refused = f"version {chosen.version} of {chosen.name} was not promoted"
            reason = f"version {version or 'none'} has become the champion since it was judged"
            raise LineageError(f"{refused}: {reason}; start the gate again, which compares it with that one")
        promote(chosen)
    return str(chosen.version)


def _rival(best: ModelVersion, evaluation: Run) -> Run:
    """The champion's evaluation under the conditions of ``evaluation``: the registered one, or a later one."""
    training = run_of(best, TRAINING_TAG)
    registered = find_evaluation(run_of(best, EVALUATION_TAG))
    others = sorted(evaluations_of(training), key=lambda run: -run.info.start_time)
    here = conditions(load_config(evaluation.info.run_id))
    for run in (registered, *others):
        if run.info.run_id != evaluation.info.run_id and conditions(load_config(run.info.run_id)) == here:
            return run
    there = conditions(load_config(registered.info.run_id))
    named = ", ".join(differences(here, there)[:4])
    raise ConfigError(
        f"run {evaluation.info.run_id} and the champion (version {best.version}, run {registered.info.run_id}) were "
        f"not evaluated under the same conditions ({named}); evaluate the champion's policy as this one: "
        f"mlflow run . -e evaluate -P parent_run={training} {_parameters(here, there)}"
    )


def _parameters(here: Mapping[str, Any], there: Mapping[str, Any]) -> str:
    """The matrix of ``here`` and what else differs from ``there``, as parameters of an evaluation."""
    groups = {name: fields for name, fields in here.items() if isinstance(fields, Mapping)}
    other = {
        group: {name: value for name, value in fields.items() if value != there[group].get(name)}
        for group, fields in groups.items()
    }
    return " ".join(f"-P {name}={text}" for name, text in flatten({**here, **other}).items())
