"""Ablations of a results page: each mechanism left out or put in, beside what it changes, and what that says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from drone_cbf.reporting.figures.effects import Effect
from drone_cbf.reporting.tables import markdown_table
from drone_cbf.reporting.trials import Interval
from projects.inputs.curriculum_files import ABLATIONS, DEFAULT, available, load_curriculum, nearest_base
from projects.results_page.comparison import READING as FIGURES
from projects.results_page.comparison import figures_by_seed, rows_of
from projects.results_page.decay import DECAY
from projects.results_page.policies import Measured, Policy
from projects.results_page.verdicts import LARGER_IS_BETTER, OF_ONE_BARRIER, differences, verdict
from projects.results_page.verdicts import READING as VERDICTS


@dataclass(frozen=True)
class Compared:
    """The policies of an ablation that differ in the seed alone, beside those of what it changes."""

    group: str
    row: dict[str, object]
    """Of the table."""
    beside: str
    apart: Mapping[str, Interval | None]
    """Title of a figure -> by how much it is larger; empty where the ablation was not measured."""


def ablations_section(compared: Sequence[Compared], found: Measured, benchmark: str, picture: str) -> str:
    """Markdown; ``picture``: name of the file that shows the same, empty where there is none."""
    rows = [{"changed": "nothing", **row} for row in rows_of(found.groups(benchmark), benchmark)]
    shown = f"![By how much each figure changes]({picture})\n\n" if picture else ""
    return (
        "## Ablations\n\nEach beside the nearest curriculum that it extends and that was measured, which *against* "
        f"names. {FIGURES} {VERDICTS} Violation and barrier error are not judged where the barrier or its gain is "
        "another one.\n\n"
        f"{shown}{markdown_table([*rows, *(one.row for one in compared)])}"
    )


def ablations(found: Measured, benchmark: str) -> list[Compared]:
    """All that are shipped, measured or not, and all others that were measured; the grid of gradient decay apart."""
    shipped = [name for name in available() if _is_shown(name)]
    others = dict.fromkeys(policy.curriculum for policy in found.policies if _is_shown(policy.curriculum))
    compared = []
    for name in dict.fromkeys([*shipped, *others]):
        text = load_curriculum(name).description if name in shipped else _stored_description(found, name)
        compared += compared_with(found, name, text, nearest_measured(found, name, benchmark))
    return compared


def nearest_measured(found: Measured, name: str, benchmark: str) -> str:
    """Of what the curriculum ``name`` extends, the nearest that was measured; ``benchmark`` stands for the default."""
    base = nearest_base(name, {policy.curriculum for policy in found.policies})
    return benchmark if base in (None, DEFAULT) else base


def effects(compared: Sequence[Compared]) -> tuple[str, list[Effect]]:
    """To be drawn: what most ablations of several seeds stand beside, and those that do."""
    told = [one for one in compared if any(one.apart.values())]
    beside = Counter(one.beside for one in told).most_common(1)[0][0] if told else ""
    return beside, [Effect(one.group.removeprefix(ABLATIONS), one.apart) for one in told if one.beside == beside]


def _is_shown(name: str) -> bool:
    return name.startswith(ABLATIONS) and not name.startswith(DECAY)


def compared_with(found: Measured, name: str, text: str, beside: str) -> list[Compared]:
    """Each group of the curriculum ``name`` against that of ``beside`` of the same blend, or else of most seeds."""
    groups, bases = found.groups(name), found.groups(beside)
    rows = [{"changed": text, **row} for row in rows_of(groups, name)]
    if not groups:
        return [Compared(name, row, beside, {}) for row in rows]
    compared = []
    for row, ((group, blend), policies) in zip(rows, groups.items(), strict=True):
        base = max(bases, key=lambda place: (place[1] == blend, len(bases[place])), default=None)
        apart = _apart(policies, bases[base] if base else [])
        row |= {"against": f"`{beside}`", "the change": verdict(apart)}
        compared.append(Compared(group, row, beside, apart))
    return compared


def _apart(policies: Sequence[Policy], base: Sequence[Policy]) -> dict[str, Interval | None]:
    """By how much each judged figure of ``policies`` is larger than that of ``base``."""
    ours, theirs = figures_by_seed(policies), figures_by_seed(base)
    same = not policies or not base or policies[0].barrier == base[0].barrier
    titles = [title for title in LARGER_IS_BETTER if same or title not in OF_ONE_BARRIER]
    return differences({title: ours[title] for title in titles}, theirs)


def _stored_description(found: Measured, name: str) -> str:
    return next(policy.description for policy in found.policies if policy.curriculum == name)
