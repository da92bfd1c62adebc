"""What a results page is about: trained policies with their evaluations, cell by cell, as the store holds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from drone_cbf.errors import LineageError
from drone_cbf.tracking.histories import Record, read, settings, stored_curriculum, table
from drone_cbf.tracking.lineage import ancestry
from drone_cbf.tracking.selection import Evaluated, evaluated
from projects.comparing import evaluation_notes, group_names

SHOWN_BY_THE_TABLES = ("The evaluations differ in blend:", "The evaluations differ in scenarios:")
"""Notes that the page leaves out: it has a column for the blend, takes the same cells of every policy, and says if some
lack."""

Cell = dict[str, Any]
"""One row of an evaluation's table of cells: ``scene``, ``noise``, ``goals``, ``filtered`` and the figures."""


@dataclass(frozen=True)
class Policy:
    """One trained policy with one evaluation of it."""

    group: str
    """The curriculum, and every other setting in which the policies of the page differ."""
    seed: int
    blend: float
    """Share of the neural barrier with which it was evaluated."""
    trained: Record
    evaluation: Record
    cells: list[Cell]
    curriculum: dict[str, Any]
    """As it was stored; empty: trained without one."""
    minutes: dict[str, float]
    """Duration of the stages that led to the policy."""

    @property
    def name(self) -> str:
        """Of its curriculum."""
        return str(self.curriculum.get("name", self.trained.curriculum))

    def flown(self, filtered: bool = True) -> list[Cell]:
        """The cells with the filter on, or off."""
        return [cell for cell in self.cells if cell["filtered"] is filtered]

    @property
    def flights(self) -> int:
        """Of the evaluation, filter on or off."""
        return int(sum(cell["rollouts"] for cell in self.cells))


@dataclass(frozen=True)
class Measured:
    """All policies of a page, and what its reader must know about the choice."""

    policies: list[Policy]
    notes: list[str]

    def groups(self, name: str) -> dict[tuple[str, float], list[Policy]]:
        """Policies that differ in the seed alone, by group and blend: those of the curriculum ``name``."""
        found: dict[tuple[str, float], list[Policy]] = {}
        for policy in sorted(self.policies, key=lambda policy: policy.seed):
            if policy.name == name:
                found.setdefault((policy.group, policy.blend), []).append(policy)
        return found


def measured(records: Sequence[Record]) -> Measured:
    """The evaluated policies among and behind ``records``; of several evaluations the one with the most flights.

    An evaluation of fewer flights is a look, not the evidence; between equals the newer one counts.
    """
    try:
        pairs = evaluated(records, strict=False)
    except LineageError:
        return Measured([], ["None of these runs has a finished evaluation."])
    names = group_names(list({pair.trained.run_id: pair.trained for pair in pairs}.values()))
    kept: dict[tuple[str, int, float], Policy] = {}
    notes = []
    for pair in pairs:
        policy = _policy(pair, names[pair.trained.run_id])
        key = (policy.group, policy.seed, policy.blend)
        other = kept.get(key)
        if other is not None:
            policy, left_out = sorted((policy, other), key=_weight, reverse=True)
            notes.append(
                f"Of two evaluations of {policy.group}, seed {policy.seed}, at blend {policy.blend:g} the one of more "
                f"flights counts, or else the newer one; not {left_out.evaluation.run_id}."
            )
        kept[key] = policy
    chosen = list(kept.values())
    asked = [Evaluated(policy.trained, policy.evaluation) for policy in chosen]
    notes += [note for note in evaluation_notes(asked) if not note.startswith(SHOWN_BY_THE_TABLES)]
    return Measured(chosen, notes)


def _weight(policy: Policy) -> tuple[int, object]:
    return policy.flights, policy.evaluation.started


def _policy(pair: Evaluated, group: str) -> Policy:
    asked = settings(pair.evaluation.run_id).get("parameters", {})
    return Policy(
        group=group,
        seed=pair.trained.seed,
        blend=float(asked.get("blend", 1.0)),
        trained=pair.trained,
        evaluation=pair.evaluation,
        cells=table(pair.evaluation.run_id, "tables/cells.json"),
        curriculum=stored_curriculum(pair.trained.run_id),
        minutes=_minutes(pair.trained.run_id),
    )


def _minutes(run_id: str) -> dict[str, float]:
    """Duration of the run and of those it builds on, by stage."""
    found: dict[str, float] = {}
    for run in ancestry(run_id):
        record = read(run.info.run_id)
        found[record.stage] = found.get(record.stage, 0.0) + (record.seconds or 0.0) / 60.0
    return found
