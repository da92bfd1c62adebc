"""Pretraining of the barrier on a results page: the effect of other states, teachers and starts, over seeds."""

from __future__ import annotations

import pandas as pd

from drone_cbf.reporting.tables import markdown_table
from drone_cbf.reporting.trials import Interval, interval, paired_difference
from projects.results_page.ablations import effect_text
from projects.results_page.figures import FLIGHTS

WITH_BARRIER = ("success", "largest violation, mean of cells [m/s]")
"""What is shown of the flights with the barrier in the filter."""
ERROR = "error/"
"""Columns with the errors on flights and on each stratum [m]."""


def pretraining_section(policies: pd.DataFrame) -> str:
    """Every way in which a barrier was pretrained, compared with the defaults; empty where none was evaluated."""
    found = policies[policies["stage"] == "pretrain_cbf"].sort_values("seed", kind="stable")
    if found.empty:
        return ""
    by_settings = {
        str(changed): members.drop_duplicates("seed", keep="last").set_index("seed")
        for changed, members in found.groupby("pretraining")  # the defaults, an empty text, come first
    }
    default = _figures(by_settings.get("", found[:0].set_index("seed")))
    rows = []
    for changed, members in by_settings.items():
        figures = _figures(members)
        row: dict[str, object] = {"change": f"`{changed}`" if changed else "none", "n": len(members)}
        row |= {FLIGHTS: int(members[FLIGHTS].min())}
        row |= {title: interval(values).text(".3g") for title, values in figures.items()}
        effects: dict[str, Interval | None] = {
            title: paired_difference(values, default[title]) for title, values in figures.items() if title in default
        }
        rows.append(row | {"effect": effect_text(effects) if changed and default else "–"})
    return (
        "## Pretraining\n\nPolicies of the efficiency stage with the barrier that was pretrained for them, before any "
        "joint training, in the 18 cells; mean ± interval over n seeds. Errors are those of the neural barrier "
        "relative to the analytic one near the boundary (|h| < 0.3 m), the mean over held-out states: of flights, and "
        "sampled ones of each stratum. `-P strata` names what is sampled for learning; *effect* as in "
        f"*Ablations*.\n\n{markdown_table(rows)}"
    )


def _figures(members: pd.DataFrame) -> dict[str, pd.Series]:
    """Title -> figure by seed; those of the barrier in cm, without seeds that lack them."""
    flown = members[members["cells"] > 0]
    figures = {title: flown[title] for title in WITH_BARRIER}
    errors = {f"error on {name.removeprefix(ERROR)} [cm]": name for name in members if name.startswith(ERROR)}
    for title, name in (errors | {"margin [cm]": "margin"}).items():
        if members[name].notna().any():
            figures[title] = 100.0 * members[name].dropna()
    return figures if len(members) else {}
