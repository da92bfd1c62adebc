"""How the barrier is pretrained, on a results page: what other states, teachers and starts change, over seeds."""

from __future__ import annotations

from collections.abc import Sequence

from drone_cbf.reporting.tables import markdown_table
from drone_cbf.reporting.trials import interval
from projects.results_page.comparison import FLIGHTS, figures_by_seed
from projects.results_page.policies import Measured, Policy, Pretraining
from projects.results_page.verdicts import Figures, differences, verdict

FLOWN = ("success", "largest violation, mean of cells [m/s]")
"""What is shown of the flights behind the barrier."""


def pretraining_section(found: Measured) -> str:
    """Every way in which a barrier was pretrained, beside the plain one: empty where none was evaluated."""
    groups: dict[str, list[Policy]] = {}
    for policy in sorted(found.policies, key=lambda policy: policy.seed):
        if policy.pretraining is not None:
            groups.setdefault(policy.pretraining.changed, []).append(policy)
    if not groups:
        return ""
    plain = _figures(groups.get("", []))
    rows = [_row(changed, groups[changed], plain) for changed in sorted(groups)]  # the plain one first
    return (
        "## Pretraining\n\nPolicies of the efficiency stage behind the barrier that was pretrained for them, before any"
        " joint training, in the 18 cells; mean ± interval over n seeds. Errors are those of the neural barrier against"
        " the analytic one near the boundary (|h| < 0.3 m), the mean over held-out states: of flights, and sampled ones"
        " of each stratum. `-P strata` names what is sampled for learning; the change is judged as among the "
        f"ablations.\n\n{markdown_table(rows)}"
    )


def _row(changed: str, policies: Sequence[Policy], plain: Figures) -> dict[str, object]:
    figures = _figures(policies)
    row: dict[str, object] = {"changed": f"`{changed}`" if changed else "nothing", "n": len(policies)}
    row[FLIGHTS] = min(policy.flights_in_a_cell() for policy in policies)
    row |= {title: interval(values.values()).text(".3g") for title, values in figures.items()}
    return row | {"the change": verdict(differences(figures, plain)) if changed and plain else "–"}


def _figures(policies: Sequence[Policy]) -> dict[str, dict[int, float]]:
    """Title -> seed -> figure; those of the barrier in cm."""
    if not policies:
        return {}
    flown = figures_by_seed(policies)
    taught = {policy.seed: policy.pretraining for policy in policies if policy.pretraining}
    return {title: flown[title] for title in FLOWN} | _errors(taught)


def _errors(taught: dict[int, Pretraining]) -> dict[str, dict[int, float]]:
    kinds = dict.fromkeys(kind for one in taught.values() for kind in one.errors)
    told = {
        f"error on {kind} [cm]": {seed: 100.0 * one.errors[kind] for seed, one in taught.items() if kind in one.errors}
        for kind in kinds
    }
    return told | {"margin [cm]": {seed: 100.0 * one.margin for seed, one in taught.items()}}
