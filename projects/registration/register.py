"""Entry point ``register``: a trained policy and its evidence become a version of a registered model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from drone_cbf.config import SystemConfig
from drone_cbf.reporting.tables import markdown_table
from drone_cbf.serving.fields import MEANING, example_observations, fields_of, image_size, other_slots
from drone_cbf.tracking.links import linked
from drone_cbf.tracking.queries import evidence
from drone_cbf.tracking.registry.served_model import policy_signature
from drone_cbf.tracking.registry.versions import TRAINING_TAG, Evidence, Servable, register_policy
from drone_cbf.tracking.runs.presentation import unpadded
from projects.cli.arguments import check, mlflow_run
from projects.cli.stage_parameters import EvaluateParameters
from projects.running.run_names import scene_datasets
from projects.running.stage_runner import ROOT, Outcome, Stage
from projects.running.summaries import verdict, worst_cell_rows
from projects.stages.evaluate import load_controller
from projects.workflows.pipeline import worst_cell

ANSWERS = """\
Answers: `command` and `nominal_command` [m/s^2]; `h` [m], 0 where it could not be read; `status`: `nominal`
(the policy's command meets the row; `h` may be negative: it then recovers fast enough),
`intervened`, `relaxed`, `no_authority`, `fallback` (not finite: brakes), `unavoidable` (something is nearer than
a command can act: brakes) or `no_points` (saw nothing: brakes);
`memory`: send it back with the next observation of the same flight."""
LOOK = "`look`: the direction to turn the camera to, of any length, world frame."
UNLABELLED = """\
It was evaluated with `sensor.kind=surfaces`: the nearest point of each obstacle, labelled, which no sensor gives. It is
served with points without labels, like every version: the figures above are of the idealised sensor."""


def work(stage: Stage) -> Outcome:
    wanted = stage.parameters
    evaluation = evidence.best_evaluation(wanted.best_of) if wanted.best_of else evidence.find_evaluation(wanted.run)
    found = evidence.evaluated_policy(evaluation)
    parameters = check(EvaluateParameters, found.config["parameters"])
    system = check(SystemConfig, found.config["system"])
    evaluated = replace(stage, parameters=parameters, system=system, parent=found.training)
    origin = {TRAINING_TAG: found.training.run_id, evidence.EVALUATION_TAG: found.evaluation.info.run_id}
    how = {"drone_cbf.register_run": stage.run.run_id, "drone_cbf.blend": f"{parameters.blend:g}"}
    tags = {**origin, **how, **found.provenance}
    stage.run.tag(**{name.removeprefix("drone_cbf."): text for name, text in tags.items()})
    metrics = worst_cell(found.evaluation.data.metrics)
    page = version_page(wanted.model, metrics, tags, found)
    scenes, _ = next(scene_datasets(parameters, system))
    shown_with_it = Evidence(metrics=metrics, dataset=scenes, description=page, tags=tags)
    tree = load_controller(evaluated)  # the very controller that was evaluated
    served = servable(tree, {"system": system.model_dump(mode="json"), "source": tags})
    version = register_policy(stage.run, wanted.model, served, shown_with_it)
    stage.run.tag(model_version=str(version.version))
    gate = {"run": found.evaluation.info.run_id, "model": wanted.model, "promote": "true"}
    shown = f"Version {version.version} of {wanted.model} is @challenger; the gate promotes it:"
    page = f"### Version {version.version} of {wanted.model}\n\n{page}"
    return Outcome(page, shown=shown, following=(mlflow_run("gate", gate),))


def servable(tree: Any, config: Mapping[str, Any]) -> Servable:
    """A controller's parameters and the package's ``config`` with the code of this project."""
    system = check(SystemConfig, config["system"])
    fields, image = fields_of(system), image_size(system.sensor)
    return Servable(
        tree=tree,
        config=config,
        code=ROOT / "projects" / "registration" / "policy_model.py",
        package=ROOT / "drone_cbf",
        requirements=ROOT / "requirements.txt",
        signature=policy_signature(fields.required, fields.optional, camera=image is not None),
        example=example_observations(image, swarm=other_slots(system) > 0),
    )


def system_of(found: evidence.EvaluatedPolicy) -> SystemConfig:
    return check(SystemConfig, found.config["system"])


def version_page(
    model: str, metrics: Mapping[str, float], tags: Mapping[str, str], found: evidence.EvaluatedPolicy
) -> str:
    """Evidence, origin and use of a version; without padding, because stores limit the length."""
    experiment, system = found.evaluation.info.experiment_id, system_of(found)
    fields, sensor = fields_of(system), system.sensor
    runs = {"safety": found.training.run_id, "evaluate": found.evaluation.info.run_id}
    links = [{"stage": stage, "run": linked(run, experiment)} for stage, run in runs.items()]
    origin = [{"tag": name, "value": text} for name, text in tags.items()]
    asked = (*fields.required, *fields.optional)
    inputs = [{"input": name, "needed": name in fields.required, "meaning": MEANING[name]} for name in asked]
    parts = [
        "#### Evidence: the worst cell of the evaluation",
        verdict(metrics),
        markdown_table(worst_cell_rows(metrics)),
        "#### Where it comes from",
        markdown_table(links),
        markdown_table(origin),
        "#### How to ask it",
        f'`mlflow.pyfunc.load_model("models:/{model}@champion").predict({{"position": ...}})`, or '
        f"`mlflow models serve -m models:/{model}@champion --env-manager local -p 5001` and POST "
        '`{"inputs": {"position": [[...]], ...}}` to `/invocations`. The first axis of every field is the batch.',
        markdown_table(inputs),
        ANSWERS,
        *([LOOK] if sensor.kind == "depth" else []),
        *([UNLABELLED] if sensor.kind == "surfaces" else []),
    ]
    return unpadded("\n\n".join(parts))
