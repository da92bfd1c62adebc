"""Joint training of a results page: do the barrier's losses fall at blend 1, and does success keep its threshold?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from drone_cbf.reporting.tables import markdown_table
from drone_cbf.training.mechanisms import LossWeights, Monitor
from projects.curriculum_files import ABLATIONS
from projects.results_benchmark import NOT_MEASURED
from projects.results_policies import Change, Measured, Policy, SuccessKept

LOSSES = ("cbf_value", "cbf_gradient", "cbf_safe", "cbf_unsafe", "cbf_hdot")
"""Of the barrier, without ``loss/``."""
UPDATES = 10
"""At either end of the training at blend 1 that are compared."""
BLEND, STAGE, SUCCESS = "curriculum/blend", "curriculum/stage", "eval/success_rate"
METRICS = (*(f"loss/{name}" for name in LOSSES), BLEND, STAGE, SUCCESS)
"""Whose histories are read."""
READING = (
    f"Losses: mean of the first {UPDATES} and of the last {UPDATES} updates at blend 1, in which only the neural "
    "barrier is flown, and what became of it, by the mean and by the median (a single steep state moves the mean "
    "alone); losses that have no weight there are left out. Success: the monitor's measurements and those at the end "
    "of a stage, each against the threshold of its stage; the longest run is of measurements in a row below it, "
    "within one stage, and should not be longer than the monitor's patience."
)


def learning_section(found: Measured) -> str:
    """Markdown: one row for each run of joint training that was at blend 1; ablations, ungated, are counted."""
    trained = {policy.trained.run_id: policy for policy in found.policies if policy.trained.stage == "safety"}
    learned = [policy for policy in sorted(trained.values(), key=lambda one: (one.group, one.seed)) if policy.losses]
    told = [policy for policy in learned if not policy.curriculum.startswith(ABLATIONS)]
    counted = [policy for policy in learned if policy.curriculum.startswith(ABLATIONS)]
    title = "## Joint training at blend 1"
    if not learned:
        return f"{title}\n\nNot measured: none of these runs has a history of {2 * UPDATES} updates at blend 1."
    watched = [policy.success for policy in told if policy.success]
    hold = sum(kept.holds for kept in watched)
    summary = (
        f"In {_falling(told)} of {len(told)} runs every loss of the barrier falls at blend 1; in {hold} of the "
        f"{len(watched)} in which it was measured, success was never below its stage's threshold for longer than the "
        "patience."
    )
    if counted:
        summary += f" Of {len(counted)} runs of ablations, which are not listed, in {_falling(counted)} all fall."
    return f"{title}\n\n{summary} {READING}\n\n{markdown_table(list(map(_row, told)))}"


def _falling(policies: Sequence[Policy]) -> int:
    return sum(all(change.falls for change in policy.losses.values()) for policy in policies)


def weighted(curriculum: Mapping[str, Any]) -> set[str]:
    """Losses that have a weight in a stage of blend 1; by the defaults, where the stored curriculum does not say."""
    general = {**LossWeights().model_dump(), **curriculum.get("learning", {}).get("weights", {})}
    stages = [stage for stage in curriculum.get("stages", ()) if stage.get("blend") == 1.0] or [{}]
    return {name for stage in stages for name, weight in {**general, **stage.get("weights", {})}.items() if weight}


def loss_changes(rows: Sequence[Mapping[str, float]], names: set[str]) -> dict[str, Change]:
    """Of each loss among ``names`` its first and last updates at blend 1, where these do not overlap."""
    at_one = [row for row in rows if row.get(BLEND) == 1.0]
    changes = {}
    for name in (name for name in LOSSES if name in names):
        values = tuple(row[f"loss/{name}"] for row in at_one if f"loss/{name}" in row)
        if len(values) >= 2 * UPDATES:
            changes[name] = Change(values[:UPDATES], values[-UPDATES:])
    return changes


def success_kept(rows: Sequence[Mapping[str, float]], curriculum: Mapping[str, Any]) -> SuccessKept | None:
    """Success against the thresholds of the stored curriculum; None where either was not recorded."""
    stages = curriculum.get("stages", ())
    measured = [(int(row[STAGE]), row[SUCCESS]) for row in rows if STAGE in row and SUCCESS in row]
    if not measured or not all(stage < len(stages) for stage, _ in measured):
        return None
    below = longest = current = 0
    before = measured[0][0]
    for stage, success in measured:
        fails = not success >= stages[stage].get("success_threshold", 0.0)  # NaN fails
        current = (current if stage == before else 0) + 1 if fails else 0
        below, longest, before = below + fails, max(longest, current), stage
    patience = curriculum.get("monitor", {}).get("patience", Monitor().patience)
    return SuccessKept(len(measured), below, longest, int(patience))


def _row(policy: Policy) -> dict[str, object]:
    changes, kept = policy.losses, policy.success
    row: dict[str, object] = {"curriculum": f"`{policy.group}`", "seed": str(policy.seed)}
    row |= {f"`{name}`": changes[name].text for name in LOSSES if name in changes}
    rising = [f"`{name}`" for name, change in changes.items() if not change.falls]
    row["losses fall"] = f"**no**: {', '.join(rising)}" if rising else "yes"
    if kept is None:
        return {**row, "success below threshold": NOT_MEASURED}
    return {
        **row,
        "success below threshold": f"{kept.below} of {kept.measurements}",
        "longest run": str(kept.longest),
        "patience": str(kept.patience),
        "success holds": "yes" if kept.holds else "**no**",
    }
