"""Entry point ``gate``: judges an evaluation by thresholds and by the champion; only what passes is promoted."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from drone_cbf.errors import GateError
from drone_cbf.tracking.registry.gates import FAILED, PASSED, PASSING_RUNS, Check, GateSettings, judge
from drone_cbf.tracking.registry.judgement import Judged, champion_metrics, find_judged, mark, promote_judged
from projects.cli.arguments import mlflow_run
from projects.cli.stage_parameters import GateParameters
from projects.inputs.gate_files import load_gates
from projects.registration.gate_page import gate_page
from projects.running.stage_runner import Outcome, Stage
from projects.running.summaries import target_text


@dataclass(frozen=True)
class Verdict:
    """All checks of one evaluation."""

    checks: list[Check]
    gates: GateSettings

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def reason(self) -> str:
        """What does not pass, on one line; empty where all does."""
        return "; ".join(check.reason for check in self.checks if check.reason)


def work(stage: Stage) -> Outcome:
    wanted = stage.parameters
    gates = load_gates(wanted.gates)
    judged = find_judged(wanted.model, wanted.run, wanted.promote)
    verdict = Verdict(judge(gates, judged.metrics, champion_metrics(judged)), gates)
    report(stage, judged, verdict)
    if not verdict.passed:
        raise GateError(f"run {judged.run_id} does not pass: {verdict.reason}")
    note, following = "", promotion(wanted, judged)
    if wanted.promote:
        version = promote_judged(judged)
        stage.run.tag(promoted_version=version)
        note = f"Version {version} of {wanted.model} is now `@champion`.\n\n"
        print(f"gate: version {version} of {wanted.model} is now @champion", flush=True)
    return Outcome(note + gate_page(judged, verdict.checks, verdict.gates), following=following)


def promotion(wanted: GateParameters, judged: Judged) -> tuple[str, ...]:
    """The commands that use a policy that has passed: serve the champion, promote the run, or register it first."""
    if wanted.promote or wanted.champion:
        return (f"mlflow models serve -m models:/{wanted.model}@champion --env-manager local -p 5001",)
    given = {"run": judged.run_id, "model": wanted.model}
    promote = mlflow_run("gate", given | {"promote": "true"})
    return (promote,) if judged.versions else (mlflow_run("register", given), promote)


def report(stage: Stage, judged: Judged, verdict: Verdict) -> None:
    """Records the verdict on this run; one by the project's own gates also on the judged run and its versions."""
    outcome = PASSED if verdict.passed else FAILED
    digest = verdict.gates.digest()
    content = {
        "verdict": outcome,
        "run": judged.run_id,
        "champion_run": judged.champion_run,
        "gates": stage.parameters.gates,
        "gates_digest": digest,
        "checks": [asdict(check) for check in verdict.checks],
        "queries": {"passed the gate": PASSING_RUNS, "meet the absolute thresholds": verdict.gates.query()},
        "not_in_queries": list(verdict.gates.not_searchable),
    }
    stage.run.log_text(json.dumps(content, indent=1), "gate.json")
    stage.run.tag(judged_run=judged.run_id, verdict=outcome)
    stage.run.describe(gate_page(judged, verdict.checks, verdict.gates))
    if stage.parameters.gates == "default":  # others are a trial
        mark(judged, outcome, verdict.reason or "every threshold is met", stage.run.run_id, digest)
    for check in verdict.checks:
        state, against = "ok" if check.passed else "FAILS", "" if check.kind == "absolute" else " against the champion"
        value = "missing" if check.value is None else f"{check.value:.4g}"
        print(f"gate: {state:5} {check.metric} = {value} (wanted {target_text(check)}{against})", flush=True)
