"""How an update is made more cautious than its stage asks: the factors that a monitor sets, and what they act on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import jax

from drone_cbf.arrays import Scalar

PENALISED = frozenset({"slack", "collision", "fallback", "violation"})
"""Terms of the flight's loss whose weights a monitor may raise."""
Tree = TypeVar("Tree")


@dataclass(frozen=True)
class Scales:
    """Factors on what curriculum and settings say; all 1 where nothing has gone wrong."""

    blend: float = 1.0
    penalty: float = 1.0
    """On the weights of :data:`PENALISED`."""
    learning_rate: float = 1.0
    """On the changes of both networks."""


def penalised(terms: Mapping[str, Scalar], penalty: Scalar | None) -> dict[str, Scalar]:
    """Loss terms with those of :data:`PENALISED` times ``penalty``; as they are where there is none."""
    if penalty is None:
        return dict(terms)
    return {name: penalty * term if name in PENALISED else term for name, term in terms.items()}


def slowed(change: Tree, learning_rate: Scalar | None) -> Tree:
    """An optimiser's change of parameters times the factor on the learning rate; as it is where there is none."""
    return change if learning_rate is None else jax.tree.map(lambda leaf: learning_rate * leaf, change)
