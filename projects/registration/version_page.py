"""The description of a registered version, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping

from drone_cbf.reporting.tables import markdown_table
from drone_cbf.serving.observations import MEANING, OPTIONAL
from drone_cbf.tracking.links import run_page
from drone_cbf.tracking.queries.evidence import EvaluatedPolicy
from drone_cbf.tracking.runs.presentation import unpadded
from projects.running.summaries import verdict, worst_cell_rows

ANSWERS = """\
Answers: `command` and `nominal_command` [m/s^2]; `h` [m], 0 where it could not be read; `status`: `nominal`
(the policy's command meets the row; `h` may be negative: it then recovers fast enough),
`intervened`, `relaxed`, `no_authority`, `fallback` (not finite: brakes) or `no_points` (saw nothing: brakes)."""


def version_page(model: str, metrics: Mapping[str, float], tags: Mapping[str, str], found: EvaluatedPolicy) -> str:
    """Evidence, origin and use of a version; without padding, because stores limit the length."""
    experiment = found.evaluation.info.experiment_id
    runs = {"safety": found.training.run_id, "evaluate": found.evaluation.info.run_id}
    links = [{"stage": stage, "run": f"[{run}]({run_page(run, experiment)})"} for stage, run in runs.items()]
    origin = [{"tag": name, "value": text} for name, text in tags.items()]
    inputs = [{"input": name, "needed": name not in OPTIONAL, "meaning": text} for name, text in MEANING.items()]
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
    ]
    return unpadded("\n\n".join(parts))
