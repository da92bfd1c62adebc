"""Mixtures of strata: parsing, and the number of states per stratum in a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, get_args

from pydantic import AfterValidator, Field

from drone_cbf.config import StratumName

STRATA: tuple[StratumName, ...] = get_args(StratumName)


def parse_strata(entries: Sequence[str]) -> dict[StratumName, float]:
    """Stratum -> weight, from entries like ``gap:0.2``; weights need not add up to one.

    Raises:
        ValueError: an unknown or repeated stratum, or a weight that is not a positive number.
    """
    weights: dict[StratumName, float] = {}
    for entry in entries:
        name, _, text = entry.partition(":")
        if name not in STRATA:
            raise ValueError(f"strata: {name!r} is not one of {', '.join(STRATA)}; write strata=open:0.5,gap:0.5")
        if name in weights:
            raise ValueError(f"strata holds {name} twice; name each stratum once")
        try:
            weight = float(text)
        except ValueError:
            weight = float("nan")
        if not 0.0 < weight < float("inf"):
            raise ValueError(
                f"strata: the weight {text!r} of {name} is not a number above 0; write {name}:0.5, or leave {name} out"
            )
        weights[name] = weight
    return weights


def _known(entries: tuple[str, ...]) -> tuple[str, ...]:
    parse_strata(entries)
    return entries


Strata = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_known)]


def stratum_counts(weights: dict[StratumName, float], count: int) -> dict[StratumName, int]:
    """Split ``count`` states in proportion to the weights by the largest-remainder method."""
    total = sum(weights.values())
    exact = {name: count * weight / total for name, weight in weights.items()}
    counts = {name: int(share) for name, share in exact.items()}
    by_remainder = sorted(exact, key=lambda name: counts[name] - exact[name])
    for name in by_remainder[: count - sum(counts.values())]:
        counts[name] += 1
    return counts
