"""Joint training of a results page: do the barrier's losses fall at blend 1, and does success keep its threshold?"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from drone_cbf.reporting.tables import markdown_table
from drone_cbf.training.curriculum.mechanisms import LossWeights, Monitor
from projects.inputs.curriculum_files import ABLATIONS
from projects.results_page.benchmark import NOT_MEASURED
from projects.results_page.policies import Change, Measured, Policy, SuccessKept

LOSSES = ("cbf_value", "cbf_gradient", "cbf_safe", "cbf_unsafe", "cbf_hdot")
"""Of the barrier, without ``loss/``."""
UPDATES = 10
"""At either end of the training at blend 1 that are compared."""
BLEND, STAGE, SUCCESS = "curriculum/blend", "curriculum/stage", "eval/success_rate"
HELD_OUT = {name: (f"held_out/{name}_before", f"held_out/{name}_after") for name in LOSSES}
METRICS = (*(f"loss/{name}" for name in LOSSES), *itertools.chain(*HELD_OUT.values()), BLEND, STAGE, SUCCESS)
"""Whose histories are read."""
READING = (
    "Losses *held out*: of the barrier that entered the last stage at blend 1 and of the one that left it, on the same "
    "states, which no update learned from. Losses *by updates*, each on states of its own: mean of the first "
    f"{UPDATES} and of the last {UPDATES} updates at blend 1, in which only the neural barrier is flown, and what "
    "became of it, by the mean and by the median (a single steep state moves the mean alone). Those that have no "
    "weight there are left out. Success: the monitor's measurements and those at the end of a stage, each against the "
    "threshold of its stage; the longest run is of measurements in a row below it, within one stage, and should not be "
    "longer than the monitor's patience."
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
    held_out = [policy.held_out for policy in told if policy.held_out]
    summary = (
        f"By the updates, in {_falling(policy.losses for policy in told)} of {len(told)} runs every loss of the "
        f"barrier falls at blend 1; on held-out states, in {_falling(held_out)} of the {len(held_out)} in which that "
        f"was measured. In {hold} of the {len(watched)} in which it was measured, success was never below its stage's "
        "threshold for longer than the patience."
    )
    if counted:
        falling = _falling(policy.losses for policy in counted)
        summary += f" Of {len(counted)} runs of ablations, which are not listed, in {falling} all fall by the updates."
    return f"{title}\n\n{summary} {READING}\n\n{markdown_table(list(map(_row, told)))}"


def _falling(runs: Iterable[Mapping[str, Change]]) -> int:
    return sum(all(change.falls for change in changes.values()) for changes in runs)


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


def held_out_changes(rows: Sequence[Mapping[str, float]], names: set[str]) -> dict[str, Change]:
    """Of each loss among ``names`` what the last stage at blend 1 made of it on held-out states."""
    ends = [row for row in rows if row.get(BLEND) == 1.0 and any(after in row for _, after in HELD_OUT.values())]
    told = {name: HELD_OUT[name] for name in LOSSES if name in names}
    return {
        name: Change((ends[-1][before],), (ends[-1][after],))
        for name, (before, after) in told.items()
        if ends and after in ends[-1]
    }


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
    held_out = policy.held_out
    row |= {f"`{name}`, held out": held_out[name].text for name in LOSSES if name in held_out}
    row["fall, held out"] = _verdict(held_out) if held_out else NOT_MEASURED
    row |= {f"`{name}`, by updates": changes[name].text for name in LOSSES if name in changes}
    row["fall, by updates"] = _verdict(changes)
    if kept is None:
        return {**row, "success below threshold": NOT_MEASURED}
    return {
        **row,
        "success below threshold": f"{kept.below} of {kept.measurements}",
        "longest run": str(kept.longest),
        "patience": str(kept.patience),
        "success holds": "yes" if kept.holds else "**no**",
    }


def _verdict(changes: Mapping[str, Change]) -> str:
    rising = [f"`{name}`" for name, change in changes.items() if not change.falls]
    return f"**no**: {', '.join(rising)}" if rising else "yes"
