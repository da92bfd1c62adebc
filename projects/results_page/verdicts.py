"""What an ablation says: in which figures it beats or misses what it changes, beyond the spread of the seeds."""

from __future__ import annotations

from collections.abc import Mapping

from drone_cbf.reporting.trials import CONFIDENCE, Interval, paired_difference

LARGER_IS_BETTER = {
    "success": True,
    "largest violation [m/s]": False,
    "largest violation, mean of cells [m/s]": False,
    "relaxed steps": False,
    "time to goal [s]": False,
    "barrier error [cm]": False,
}
"""The figures that are judged, by their title."""
OF_ONE_BARRIER = ("largest violation [m/s]", "largest violation, mean of cells [m/s]", "barrier error [cm]")
"""Those that do not compare where the analytic barrier or its gain is another one."""
NO_DIFFERENCE = "no difference found"
TOO_FEW = "too few seeds"
READING = (
    "The change *pays* in a figure where it is better beyond the spread of the seeds: the "
    f"{CONFIDENCE:.0%} Student-t interval of the difference at the same seed (same networks at the start, same "
    "scenes), given with it, excludes zero; it *costs* where it is worse. So a mechanism pays if putting it in pays, "
    "or if leaving it out costs. Of figures that do not differ one in twenty is told to all the same, and with few "
    "seeds only large differences are found."
).replace("%", " %")

Figures = Mapping[str, Mapping[int, float]]
"""Title -> seed -> value."""


def differences(ours: Figures, theirs: Figures) -> dict[str, Interval | None]:
    """By how much each figure of ``ours`` is larger; None where too few seeds are common."""
    return {title: paired_difference(values, theirs[title]) for title, values in ours.items()}


def verdict(apart: Mapping[str, Interval | None]) -> str:
    """``pays: ...; costs: ...`` with the differences that make something better and worse.

    A difference that is not a number (nobody reached the goal, say) is judged neither way.
    """
    told: dict[str, list[str]] = {"pays": [], "costs": []}
    for title, change in apart.items():
        if change is not None and change.excludes_zero:
            better = (change.mean > 0.0) is LARGER_IS_BETTER.get(title, False)  # errors and margins: the less
            told["pays" if better else "costs"].append(f"{title} {change.mean:+.2g} ± {change.half_width:.2g}")
    if not any(apart.values()):
        return TOO_FEW
    return "; ".join(f"{word}: {', '.join(figures)}" for word, figures in told.items() if figures) or NO_DIFFERENCE
