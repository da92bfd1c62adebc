"""Where the figures of a results page come from: runs, commit, versions, and the commands that repeat them."""

from __future__ import annotations

from collections.abc import Sequence

from drone_cbf.reporting.tables import markdown_table
from drone_cbf.tracking.histories import Record, read
from drone_cbf.tracking.lineage import ancestry
from drone_cbf.tracking.tags import DIRTY_TAG, VERSION_PREFIX
from projects.results_runs import Policy


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
            "commit": _commit(policy.trained),
            "minutes": round((policy.trained.seconds or 0.0) / 60.0, 1),
        }
        for policy in policies
    ]
    before = {record.run_id: record for policy in policies for record in _behind(policy)}
    shared = [
        {"stage": record.stage, "run": f"`{record.run_id}`", "commit": _commit(record),
         "minutes": round((record.seconds or 0.0) / 60.0, 1)}
        for record in before.values()
    ]  # fmt: skip
    built_on = f"\n\nBuilt on:\n\n{markdown_table(shared)}" if shared else ""
    runs = [*before.values(), *(one for policy in policies for one in (policy.trained, policy.evaluation))]
    commands = _commands(runs)
    return (
        f"## Runs\n\n{markdown_table(rows)}{built_on}\n\n{_environments(runs)}\n\n"
        "Each run is repeated from its ID, in this order, and compared figure by figure with what was recorded:\n\n"
        f"```\n{commands}\n```"
    )


def _behind(policy: Policy) -> list[Record]:
    """The stages before the policy's own, the first one first."""
    runs = [run.info.run_id for run in ancestry(policy.trained.run_id)]
    return [read(run_id) for run_id in reversed(runs[1:])]


def _commands(runs: Sequence[Record]) -> str:
    stages = {record.run_id: record.stage for record in runs}
    return "\n".join(f"mlflow run . -e reproduce -P run={run_id}   # {stage}" for run_id, stage in stages.items())


def _commit(record: Record) -> str:
    changed = " with uncommitted changes" if record.tags.get(DIRTY_TAG) == "true" else ""
    return f"`{record.commit[:10] or 'unknown'}`{changed}"


def _environments(runs: Sequence[Record]) -> str:
    """Versions and devices, one line for each environment that the runs were made in."""
    told = dict.fromkeys(_environment(record) for record in runs)
    return "\n".join(f"- {line}" for line in told)


def _environment(record: Record) -> str:
    tags = sorted((key, text) for key, text in record.tags.items() if key.startswith(VERSION_PREFIX))
    versions = [f"{key.removeprefix(VERSION_PREFIX)} {text}" for key, text in tags]
    device = record.tags.get("drone_cbf.device", "device unknown")
    return f"{device}; {', '.join(versions) or 'versions unknown'}"
