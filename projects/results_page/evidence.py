"""Where the figures of a results page come from: runs, commit, versions, and the commands that repeat them."""

from __future__ import annotations

from collections.abc import Sequence

from drone_cbf.reporting.tables import markdown_table
from projects.results_page.policies import Policy, RunNote


def evidence_section(policies: Sequence[Policy]) -> str:
    """Every run behind the page with its commit, the environments, and how to repeat a run."""
    if not policies:
        return "## Runs\n\nNone."
    rows = [
        {
            "curriculum": f"`{policy.group}`",
            "seed": policy.seed,
            "blend": f"{policy.blend:g}",
            "trained by": f"`{policy.trained.run_id}`",
            "evaluated by": f"`{policy.evaluation.run_id}`",
            "commit": policy.trained.commit,
            "minutes": _minutes(policy.trained),
        }
        for policy in policies
    ]
    before = {run.run_id: run for policy in policies for run in policy.runs[:-2]}
    shared = [
        {"stage": run.stage, "run": f"`{run.run_id}`", "commit": run.commit, "minutes": _minutes(run)}
        for run in before.values()
    ]
    built_on = f"\n\nBuilt on:\n\n{markdown_table(shared)}" if shared else ""
    runs = [*before.values(), *(one for policy in policies for one in (policy.trained, policy.evaluation))]
    environments = "\n".join(f"- {line}" for line in dict.fromkeys(run.made_on for run in runs))
    return (
        f"## Runs\n\n{markdown_table(rows)}{built_on}\n\n{environments}\n\n"
        "Each run is repeated from its ID in the store that holds it, in this order, and compared figure by figure "
        f"with what was recorded:\n\n```\n{_commands(runs)}\n```"
    )


def _minutes(run: RunNote) -> float:
    return round(run.seconds / 60.0, 1)


def _commands(runs: Sequence[RunNote]) -> str:
    stages = {run.run_id: run.stage for run in runs}
    return "\n".join(f"mlflow run . -e reproduce -P run={run_id}   # {stage}" for run_id, stage in stages.items())
