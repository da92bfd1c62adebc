"""Entry point ``gate``: judges an evaluation by thresholds and by the champion; only what passes is promoted."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from drone_cbf.errors import GateError
from drone_cbf.reporting.tables import markdown_table
from drone_cbf.tracking.links import linked
from drone_cbf.tracking.queries.cells import CELLS_FILE
from drone_cbf.tracking.registry.gates import FAILED, PASSED, PASSING_RUNS, Check, GateSettings, judge
from drone_cbf.tracking.registry.judgement import Judged, champion_metrics, find_judged, mark, promote_judged
from projects.cli.arguments import mlflow_run
from projects.cli.store_parameters import GateParameters
from projects.inputs.gate_files import load_gates
from projects.running.stage_runner import Outcome, Stage
from projects.running.summaries import UNITS, as_shown, target_text


@dataclass(frozen=True)
class Verdict:
    """All checks of one evaluation."""

    checks: list[Check]
    gates: GateSettings

    @property
    def reason(self) -> str:
        """What does not pass, on one line; empty where all does."""
        return "; ".join(check.reason for check in self.checks if not check.passed)

    @property
    def outcome(self) -> str:
        return FAILED if self.reason else PASSED


def work(stage: Stage) -> Outcome:
    wanted = stage.parameters
    every = load_gates(wanted.gates)
    judged = find_judged(wanted.model, wanted.run, wanted.promote)
    gates = every.for_evaluation(judged.sensor, swarm=judged.swarm)
    verdict = Verdict(judge(gates, judged.metrics, champion_metrics(judged)), gates)
    report(stage, judged, verdict)
    if verdict.reason:
        raise GateError(f"run {judged.run_id} does not pass: {verdict.reason}")
    note, following = "", promotion(wanted, judged)
    if wanted.promote:
        version = promote_judged(judged)
        stage.run.tag(promoted_version=version)
        note = f"Version {version} of {wanted.model} is now `@champion`.\n\n"
        print(f"gate: version {version} of {wanted.model} is now @champion", flush=True)
    return Outcome(note + gate_page(judged, verdict), following=following)


def promotion(wanted: GateParameters, judged: Judged) -> tuple[str, ...]:
    """The commands that use a policy that has passed: serve the champion, promote the run, or register it first."""
    if wanted.promote or wanted.champion:
        return (f"mlflow models serve -m models:/{wanted.model}@champion --env-manager local -p 5001",)
    given = {"run": judged.run_id, "model": wanted.model}
    promote = mlflow_run("gate", given | {"promote": "true"})
    return (promote,) if judged.versions else (mlflow_run("register", given), promote)


def report(stage: Stage, judged: Judged, verdict: Verdict) -> None:
    """Records the verdict on this run; one by the project's own gates also on the judged run and its versions."""
    digest = verdict.gates.digest()
    content = {
        "verdict": verdict.outcome,
        "run": judged.run_id,
        "champion_run": judged.champion_run,
        "gates": stage.parameters.gates,
        "sensor": judged.sensor,
        "swarm": judged.swarm,
        "gates_digest": digest,
        "checks": [asdict(check) for check in verdict.checks],
        "queries": {"passed the gate": PASSING_RUNS, "meet the absolute thresholds": verdict.gates.query()},
        "not_in_queries": list(verdict.gates.not_searchable),
    }
    stage.run.log_text(json.dumps(content, indent=1), "gate.json")
    stage.run.tag(judged_run=judged.run_id, verdict=verdict.outcome)
    stage.run.describe(gate_page(judged, verdict))
    if stage.parameters.gates == "default":  # others are a trial
        mark(judged, verdict.outcome, verdict.reason or "every threshold is met", stage.run.run_id, digest)
    for check in verdict.checks:
        state, against = "ok" if check.passed else "FAILS", "" if check.kind == "absolute" else " against the champion"
        value = "missing" if check.value is None else f"{check.value:.4g}"
        print(f"gate: {state:5} {check.metric} = {value} (wanted {target_text(check)}{against})", flush=True)


def gate_page(judged: Judged, verdict: Verdict) -> str:
    """The verdict, every check, and how to find all runs that pass, in Markdown."""
    gates = verdict.gates
    champion = f"run {judged.champion_run}" if judged.champion_run else "none; the thresholds alone decide"
    unsearchable = ", ".join(f"`{name}`" for name in gates.not_searchable)
    without = f" (without {unsearchable}: of cells, only the table `{CELLS_FILE}` holds these)" if unsearchable else ""
    flown = f"sensor `{judged.sensor}`{', in a swarm' if judged.swarm else ''}"
    parts = [
        f"### Gate: {verdict.outcome}",
        f"Judged: run {linked(judged.run_id, judged.experiment_id)}, {flown}. Champion: {champion}.",
        markdown_table([_row(check) for check in verdict.checks]),
        "Filters of the MLflow UI's search box and of `search_runs`:",
        f"- every run that has passed: ``{PASSING_RUNS}``\n"
        f"- every evaluation that meets the thresholds{without}: ``{gates.query()}``",
    ]
    return "\n\n".join(parts)


def _row(check: Check) -> dict[str, object]:
    name = check.metric.rpartition("/")[2]
    against = "threshold" if check.kind == "absolute" else "champion"
    figure = {"metric": check.metric, "unit": UNITS.get(name, ""), "against": against}
    passed = "yes" if check.passed else "**no**"
    return {**figure, "value": as_shown(name, check.value), "limit": target_text(check), "passed": passed}
