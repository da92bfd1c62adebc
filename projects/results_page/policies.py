"""What a results page is about: trained policies with all that the page says of them, apart from the store."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np

Cell = dict[str, Any]
"""One row of an evaluation's table of cells: ``scene``, ``noise``, ``goals``, ``filtered`` and the figures."""


@dataclass(frozen=True)
class RunNote:
    """A run behind the figures, as the page names it."""

    run_id: str
    stage: str
    commit: str
    """The beginning of the commit, and whether the code was changed since."""
    made_on: str
    """Device and versions."""
    seconds: float


@dataclass(frozen=True)
class Change:
    """A loss at the two ends of the training at blend 1: update by update, or on the same held-out states."""

    first: tuple[float, ...]
    last: tuple[float, ...]

    @property
    def falls(self) -> bool:
        """By the mean; a loss that stays zero has nowhere to fall. NaN does not fall."""
        before, after = np.mean(self.first), np.mean(self.last)
        return bool(after < before or before == after == 0.0)

    @property
    def text(self) -> str:
        """``before → after (× ratio; median × ratio)``; a single value is its own median."""
        by_mean, by_median = (_ratio(how(self.first), how(self.last)) for how in (np.mean, np.median))
        ratios = by_mean if len(self.first) == len(self.last) == 1 else f"{by_mean}; median {by_median}"
        return f"{np.mean(self.first):.2g} → {np.mean(self.last):.2g} ({ratios})"


@dataclass(frozen=True)
class SuccessKept:
    """How success was measured against the thresholds of its stages."""

    measurements: int
    below: int
    longest: int
    """Measurements in a row below the threshold, within one stage."""
    patience: int

    @property
    def holds(self) -> bool:
        return self.longest <= self.patience


@dataclass(frozen=True)
class Pretraining:
    """How a barrier was pretrained, and how far that left it from the analytic one."""

    changed: str
    """Settings that are not the plain ones, ``name=value``; empty: none."""
    errors: dict[str, float]
    """Mean error near the boundary on held-out states: of ``flights``, and of every stratum by its name [m]."""
    margin: float
    """[m]"""


@dataclass(frozen=True)
class Policy:
    """One trained policy with one evaluation of it."""

    group: str
    """The curriculum, and every other setting in which the policies of its store differ."""
    settings: str
    """Digest of all settings but the seed, those of the stages before it included: a group shares it."""
    seed: int
    blend: float
    """Share of the neural barrier with which it was evaluated."""
    runs: tuple[RunNote, ...]
    """From the first stage to the training of the policy and its evaluation."""
    evaluated: datetime
    flown_with: dict[str, str]
    """Parameters of the evaluation."""
    cells: list[Cell]
    curriculum: str
    """Its name; empty: trained without one."""
    description: str
    barrier: tuple[str, float]
    """Kind and class-K gain of the analytic barrier, by which violations are measured."""
    gradient_decay: float
    """Of the training [1/s]."""
    horizon: int | None
    """Steps of a training flight, where one parameter says so."""
    losses: dict[str, Change]
    """Of the barrier, where it was trained at blend 1 for long enough."""
    success: SuccessKept | None
    """Where it was measured while training."""
    held_out: dict[str, Change] = field(default_factory=dict)
    """The same losses on held-out states, where that was measured."""
    barrier_error: float | None = None
    """Mean error of the neural barrier near the boundary, on held-out flights of the end [m]; None: not measured."""
    pretraining: Pretraining | None = None
    """Of a barrier that was not yet trained jointly; None of any other."""

    @property
    def trained(self) -> RunNote:
        return self.runs[-2]

    @property
    def evaluation(self) -> RunNote:
        return self.runs[-1]

    @property
    def augment(self) -> float:
        """How far the evaluation displaced its scenes."""
        return float(self.flown_with.get("augment", 0.0))

    @property
    def flights(self) -> int:
        """Of the evaluation, filter on or off."""
        return int(sum(cell["rollouts"] for cell in self.cells))

    def flown(self, filtered: bool = True) -> list[Cell]:
        """The cells with the filter on, or off."""
        return [cell for cell in self.cells if cell["filtered"] is filtered]

    def flights_in_a_cell(self, filtered: bool = True) -> int:
        """Of the cell with the fewest; 0 where none was flown so."""
        return int(min((cell["rollouts"] for cell in self.flown(filtered)), default=0))

    def minutes(self, stage: str = "") -> float:
        """Duration of the training, or of one stage of it."""
        return sum(run.seconds for run in self.runs[:-1] if stage in ("", run.stage)) / 60.0


@dataclass(frozen=True)
class Measured:
    """All policies of a page, and what its reader must know about the choice."""

    policies: list[Policy]
    """Evaluated in the scenes as they are drawn."""
    notes: list[str]
    displaced: list[Policy] = field(default_factory=list)
    """The same or others, evaluated in displaced scenes."""

    @property
    def every(self) -> list[Policy]:
        """Whatever scenes they were evaluated in."""
        return [*self.policies, *self.displaced]

    def displaced_by(self, augment: float) -> Measured:
        """Those that were evaluated in scenes displaced so far."""
        return Measured([policy for policy in self.displaced if policy.augment == augment], [])

    def groups(self, name: str) -> dict[tuple[str, float], list[Policy]]:
        """Policies that differ in the seed alone, by group and blend: those of the curriculum ``name``."""
        found: dict[tuple[str, float], list[Policy]] = {}
        for policy in sorted(self.policies, key=lambda policy: policy.seed):
            if policy.curriculum == name:
                found.setdefault((policy.group, policy.blend), []).append(policy)
        return found


def with_nan(cell: Mapping[str, Any]) -> Cell:
    """JSON knows no NaN (nobody arrived, so there is no time to goal): null stands for it."""
    return {name: math.nan if value is None else value for name, value in cell.items()}


def chosen_once(policies: Sequence[Policy]) -> Measured:
    """One evaluation of each policy, blend and displacement: that of the most flights, between equals the newer one.

    An evaluation of fewer flights is a look, not the evidence.
    """
    kept: dict[tuple[str, int, float, float], Policy] = {}
    notes = []
    for policy in _grouped(policies):
        key = (policy.settings, policy.seed, policy.blend, policy.augment)
        other = kept.get(key)
        if other is not None and other.evaluation.run_id != policy.evaluation.run_id:
            policy, left_out = sorted((policy, other), key=_weight, reverse=True)
            notes.append(
                f"Of two evaluations of {policy.group}, seed {policy.seed}, at blend {policy.blend:g} the one of more "
                f"flights counts, or else the newer one; not {left_out.evaluation.run_id}."
            )
        kept[key] = policy
    plain = [policy for policy in kept.values() if not policy.augment]
    return Measured(plain, notes, [policy for policy in kept.values() if policy.augment])


def _grouped(policies: Sequence[Policy]) -> list[Policy]:
    """The same with one name for the same settings, and different names for different settings.

    Each store named its groups by what differs within it; together they may share a name, which the digest tells apart.
    """
    names: dict[str, str] = {}
    for policy in policies:
        names[policy.settings] = max(names.get(policy.settings, ""), policy.group, key=len)
    shared = Counter(names.values())
    texts = {key: name if shared[name] == 1 else f"{name} [{key}]" for key, name in names.items()}
    return [replace(policy, group=texts[policy.settings]) for policy in policies]


def _weight(policy: Policy) -> tuple[int, datetime]:
    return policy.flights, policy.evaluated


def _ratio(before: float, after: float) -> str:
    return f"× {after / before:.2g}" if before else f"{before:.2g} → {after:.2g}"
