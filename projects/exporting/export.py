"""Entry point ``export``: a registered policy becomes programs for other runtimes, checked against what is served."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from drone_cbf.api.registered_policies import load_controller
from drone_cbf.config import SystemConfig
from drone_cbf.exporting.drone_policy import Policy
from drone_cbf.exporting.folder import write_folder
from drone_cbf.exporting.latency import by_turns, decisions, figures
from drone_cbf.exporting.parity import Answer, Deviation, ParityFlight, deviation, fly_served, refuse_deviation
from drone_cbf.exporting.programs import check_installed
from drone_cbf.reporting.tables import markdown_table, terminal_table
from drone_cbf.serving.service import PolicyService
from drone_cbf.tracking.checkpoints.packages import MANIFEST, write_manifest
from drone_cbf.tracking.links import linked
from drone_cbf.tracking.queries.evidence import EVALUATION_TAG
from drone_cbf.tracking.registry.served_model import load_served
from drone_cbf.tracking.registry.versions import TRAINING_TAG, tag_version, uri_of, version_at
from projects.cli.store_parameters import ExportParameters
from projects.running.stage_runner import Outcome, Stage

FOLDER = "export"
"""Artifact folder of the run."""
Latencies = Mapping[str, Mapping[str, float]]


def work(stage: Stage) -> Outcome:
    wanted = stage.parameters
    check_installed(wanted.forms)
    version = version_at(wanted.model)
    runs = {tag: version.tags[tag] for tag in (TRAINING_TAG, EVALUATION_TAG) if tag in version.tags}
    origin = {"model": version.name, "model_version": str(version.version)}
    stage.run.tag(**origin, **{tag.removeprefix("drone_cbf."): run for tag, run in runs.items()})
    system, params = load_controller(uri_of(version))
    service, served = PolicyService(system, params), load_served(uri_of(version))
    with tempfile.TemporaryDirectory(prefix="drone_cbf-") as place:
        folder = Path(place) / FOLDER
        write_folder(folder, system, service, wanted.points, wanted.forms, uri_of(version))
        write_manifest(folder / MANIFEST, folder)
        found, taken = checked(folder, wanted, system, service, served)
        for file in sorted(folder.iterdir()):  # only now: what deviates is never stored
            stage.run.log_file(file, FOLDER)
    stage.run.log_metrics(metrics(found, taken))
    tag_version(version, export_run=stage.run.run_id)
    page = export_page(stage, f"Version {version.version} of {version.name}", runs, found, taken)
    download = f"mlflow artifacts download --run-id {stage.run.run_id} --artifact-path {FOLDER} --dst-path ."
    tables = (terminal_table(parity_rows(found)), terminal_table(latency_rows(taken)))
    return Outcome(page, shown="\n\n".join(tables), following=(download,))


def checked(
    folder: Path, wanted: ExportParameters, system: SystemConfig, service: PolicyService, served: Answer
) -> tuple[dict[str, Deviation], Latencies]:
    """Deviations over a flight by form, none beyond the tolerance, and latencies half way of it."""
    flight = ParityFlight(family=wanted.scene, steps=wanted.steps, noise=wanted.noise, seed=wanted.seed)
    asked, answers = fly_served(served, system, flight)
    policies: dict[str, Policy] = {form: Policy(folder, form) for form in wanted.forms}
    found = {form: deviation(policy, asked, answers) for form, policy in policies.items()}
    for form, one in found.items():
        refuse_deviation(form, one, wanted.tolerance)
    calls = decisions(service, policies, served, asked[len(asked) // 2])
    return found, figures(by_turns(calls, wanted.calls))


def metrics(found: Mapping[str, Deviation], taken: Latencies) -> dict[str, float]:
    """By name: deviations in the units of their fields, latencies in milliseconds."""
    values = {f"parity/{form}/{name}": gap for form, one in found.items() for name, gap in one.largest.items()}
    values |= {f"parity/{form}/other_statuses": float(one.statuses) for form, one in found.items()}
    return values | {f"latency/{name}/{part}_ms": ms for name, each in taken.items() for part, ms in each.items()}


def parity_rows(found: Mapping[str, Deviation]) -> list[dict[str, object]]:
    return [
        {
            "form": form,
            "command [m/s^2]": f"{one.largest['command']:.2g}",
            "nominal [m/s^2]": f"{one.largest['nominal_command']:.2g}",
            "h [m]": f"{one.largest['h']:.2g}",
            "other statuses": one.statuses,
        }
        for form, one in found.items()
    ]


def latency_rows(taken: Latencies) -> list[dict[str, object]]:
    order = sorted(taken, key=lambda name: taken[name]["p50"])
    return [{"decision": name, **{f"{part} [ms]": f"{ms:.3f}" for part, ms in taken[name].items()}} for name in order]


def export_page(
    stage: Stage, named: str, runs: Mapping[str, str], found: Mapping[str, Deviation], taken: Latencies
) -> str:
    """What was exported, how near it is to what is served, and how fast, in Markdown."""
    wanted, experiment = stage.parameters, stage.run.experiment_id
    links = [{"run": tag.removeprefix("drone_cbf."), "ID": linked(run, experiment)} for tag, run in runs.items()]
    parts = [
        f"### {named} for other runtimes",
        f"The artifacts `{FOLDER}/` need neither this package nor MLflow; `{FOLDER}/README.md` says how to use them.",
        *([markdown_table(links)] if links else []),
        f"#### Deviation from the served policy over {wanted.steps} steps of `{wanted.scene}`, largest",
        markdown_table(parity_rows(found)),
        f"Allowed: {wanted.tolerance:g} m/s^2 of each command.",
        "#### Time of one decision",
        markdown_table(latency_rows(taken)),
        "`compiled` and the forms: arrays in, arrays out. `*_loader` and `predict`: as users ask them, with a memory.",
    ]
    return "\n\n".join(parts)
