"""A results page as a whole: which policies it shows, and its sections in their order."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from projects.comparison.comparison import differing_flights
from projects.results_page.ablations import Compared, ablations_section
from projects.results_page.benchmark import benchmark_section
from projects.results_page.comparison import barriers_section, curricula_section
from projects.results_page.decay import DECAY, decay_section
from projects.results_page.displaced import displaced_section
from projects.results_page.evidence import evidence_section
from projects.results_page.learning import learning_section
from projects.results_page.policies import Measured, Policy, chosen_once
from projects.results_page.pretraining import pretraining_section

SHOWN_BY_THE_TABLES = ("The evaluations differ in blend:", "The evaluations differ in scenarios:")
"""Notes that the page leaves out: it has a column for the blend, takes the same cells of every policy, and says if some
lack."""


def measured(policies: Sequence[Policy]) -> Measured:
    """What the page shows of ``policies``, and in what their evaluations differ as far as that is not shown."""
    found = chosen_once(policies)
    notes = differing_flights([policy.flown_with for policy in found.policies if _stands_beside_others(policy)])
    told = [note for note in notes if not note.startswith(SHOWN_BY_THE_TABLES)]
    nothing = [] if found.every else ["None of these runs has a finished evaluation."]
    return Measured(found.policies, [*nothing, *found.notes, *told], found.displaced)


def _stands_beside_others(policy: Policy) -> bool:
    """In a table that compares flights; the sections on gradient decay and pretraining tell how many they fly."""
    return policy.trained.stage == "safety" and not policy.curriculum.startswith(DECAY)


def results_page(
    found: Measured, compared: Sequence[Compared], benchmark: str, written_by: str, picture: str = ""
) -> str:
    """The whole page; ``benchmark``: the curriculum that is held against the targets.

    ``compared`` are the ablations, ``picture`` is the name of the file that shows them, empty where there is none.
    """
    head = (
        "# Results\n\n"
        f"Written by `{written_by}` on {datetime.now(UTC):%Y-%m-%d}, from the runs listed at the end; not by hand.\n\n"
        "Success is reaching the goal and staying there without a collision; the violation is (−(dh/dt + αh))₊ of the "
        "analytic barrier where the command acts, predicted from the true state (README, *What it measures*)."
    )
    notes = "\n".join(f"- {note}" for note in found.notes)
    policies = benchmark_policies(found, benchmark)
    sections = [
        *(filter(None, [notes])),
        benchmark_section(policies, benchmark),
        learning_section(found),
        curricula_section(found),
        barriers_section(found),
        ablations_section(compared, found, benchmark, picture),
        *filter(None, [displaced_section(found, benchmark)]),
        decay_section(found),
        *filter(None, [pretraining_section(found)]),
        evidence_section(found.every),
    ]
    return "\n\n".join([head, *sections]) + "\n"


def benchmark_policies(found: Measured, name: str) -> list[Policy]:
    """Of the groups of that curriculum evaluated at blend 1, the one with the most seeds."""
    groups = [policies for (_, blend), policies in found.groups(name).items() if blend == 1.0]
    return max(groups, key=len, default=[])
