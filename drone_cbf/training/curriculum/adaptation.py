"""Factors by which a monitor makes updates more cautious than their stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import jax

from drone_cbf.arrays import Scalar

PENALTY_TERMS = frozenset({"slack", "collision", "fallback", "violation"})
"""Terms of the flight's loss whose weights a monitor may raise."""
Tree = TypeVar("Tree")


@dataclass(frozen=True)
class Scales:
    """Factors on the values of curriculum and settings; all 1 unless training was rolled back."""

    blend: float = 1.0
    penalty: float = 1.0
    """On the weights of :data:`PENALTY_TERMS`."""
    learning_rate: float = 1.0
    """On the changes of both networks."""


def scale_penalties(terms: Mapping[str, Scalar], penalty: Scalar | None) -> dict[str, Scalar]:
    """Loss terms with those of :data:`PENALTY_TERMS` times ``penalty``; unchanged for None."""
    if penalty is None:
        return dict(terms)
    return {name: penalty * term if name in PENALTY_TERMS else term for name, term in terms.items()}


def scale_changes(change: Tree, learning_rate: Scalar | None) -> Tree:
    """An optimiser's parameter change times the learning-rate factor; unchanged for None."""
    return change if learning_rate is None else jax.tree.map(lambda leaf: learning_rate * leaf, change)
