"""What an ablation says: in which figures it beats or misses what it changes, beyond the spread of the seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drone_cbf.reporting.trials import CONFIDENCE, Interval, difference

LARGER_IS_BETTER = {
    "success": True,
    "largest violation [m/s]": False,
    "relaxed steps": False,
    "time to goal [s]": False,
}
"""The figures that are judged, by their title."""
NO_DIFFERENCE = "no difference found"
TOO_FEW = "too few seeds"
READING = (
    "The change *pays* in a figure where it is better beyond the spread of the seeds: Welch's "
    f"{CONFIDENCE:.0%} interval of the difference, given with it, excludes zero; it *costs* where it is worse. So a "
    "mechanism pays if putting it in pays, or if leaving it out costs. Of figures that do not differ one in twenty is "
    "told to all the same, and with few seeds only large differences are found."
).replace("%", " %")

Figures = Mapping[str, Sequence[float]]
"""Title -> value of each seed."""


def verdict(ours: Figures, theirs: Figures, titles: Sequence[str] = tuple(LARGER_IS_BETTER)) -> str:
    """``pays: ...; costs: ...`` with the differences in which ``ours`` is better and worse than ``theirs``.

    A difference that is not a number (nobody reached the goal, say) is judged neither way.
    """
    found = {title: difference(ours[title], theirs[title]) for title in titles}
    told: dict[str, list[str]] = {"pays": [], "costs": []}
    for title, apart in found.items():
        if apart is not None and excludes_zero(apart):
            better = (apart.mean > 0.0) is LARGER_IS_BETTER[title]
            told["pays" if better else "costs"].append(f"{title} {apart.mean:+.2g} ± {apart.half_width:.2g}")
    if all(apart is None for apart in found.values()):
        return TOO_FEW
    return "; ".join(f"{word}: {', '.join(figures)}" for word, figures in told.items() if figures) or NO_DIFFERENCE


def excludes_zero(apart: Interval) -> bool:
    """Whether the whole interval lies on one side of zero; NaN does not."""
    return abs(apart.mean) > apart.half_width
