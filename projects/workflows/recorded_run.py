"""A recorded run, read back as the command line that repeats it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drone_cbf.config import Section, SystemConfig
from drone_cbf.errors import LineageError
from drone_cbf.tracking.runs.lineage import load_artifact, resolve_parent
from drone_cbf.tracking.tags import CURRICULUM_FILE
from projects.cli.arguments import as_text, build_system, parse
from projects.inputs.curriculum_files import load_curriculum
from projects.running.entry_points import ENTRY_POINTS

REPEATABLE = ("efficiency", "pretrain_cbf", "safety", "evaluate")
NOT_REPEATED = ("resume_run",)
"""Parameters that say how a run came about, not what it computes."""


@dataclass(frozen=True)
class Recorded:
    """A finished run that can be repeated."""

    run_id: str
    stage: str
    given: dict[str, str]
    """Every parameter and every field of its system, as on the command line."""
    curriculum: str | None
    """The curriculum as it was then, JSON; None where the stage has none."""
    newer: dict[str, str]
    """Parameters and fields of the system that did not exist yet when it was recorded, at their defaults of today."""

    def arguments(self, folder: Path) -> dict[str, str]:
        """What the entry point is given; the curriculum, for its file may have changed, is written to ``folder``."""
        if self.curriculum is None:
            return self.given
        file = folder / "curriculum.yaml"
        file.write_text(self.curriculum)  # JSON is YAML
        return {**self.given, "curriculum": str(file)}


def read_recorded(run_id: str) -> Recorded:
    """The run with all that it was given, checked against the parameters of today before any work.

    Raises:
        LineageError: there is no such run, it is not finished, of another stage, or lacks its config.
        ConfigError: a stored parameter is unknown today, or out of today's range.
    """
    recorded = resolve_parent(run_id, REPEATABLE, called="run")
    try:
        parameters, system = recorded.config["parameters"], recorded.config["system"]
    except KeyError as error:
        raise LineageError(f"config.yaml of run {run_id} has no {error}; it cannot be repeated") from error
    asked = {name: value for name, value in parameters.items() if value is not None and name not in NOT_REPEATED}
    given = {name: as_text(value) for name, value in asked.items()}
    for group, fields in system.items():
        given |= {f"{group}.{name}": as_text(value) for name, value in fields.items()}
    curriculum = load_artifact(run_id, CURRICULUM_FILE) if recorded.stage == "safety" else None
    newer = _newer(ENTRY_POINTS[recorded.stage].parameters, parameters, system)
    result = Recorded(run_id, recorded.stage, given, curriculum, newer)
    with tempfile.TemporaryDirectory(prefix="drone_cbf-") as folder:
        _check(result, Path(folder), parameters, system)
    return result


def _newer(model: type[Section], parameters: Mapping[str, Any], system: Mapping[str, Any]) -> dict[str, str]:
    """What the command line of today has and the run had not, with the value that is taken."""
    old = {*parameters, *NOT_REPEATED}
    found = {name: field.default for name, field in model.model_fields.items() if name not in old}
    for group, fields in SystemConfig().model_dump(mode="json").items():
        found |= {f"{group}.{name}": value for name, value in fields.items() if name not in system.get(group, {})}
    return {name: as_text(value) for name, value in found.items()}


def _check(recorded: Recorded, folder: Path, parameters: Mapping[str, Any], system: Mapping[str, Any]) -> None:
    """What will be parsed must be what was stored."""
    arguments = recorded.arguments(folder)
    words = [f"--{name}={text}" for name, text in arguments.items()]
    parsed = parse(recorded.stage, ENTRY_POINTS[recorded.stage].parameters, words)
    if recorded.curriculum is not None:
        load_curriculum(arguments["curriculum"])
    again = parsed.parameters.model_dump(mode="json")
    # The curriculum is read from the run, not from its file of today.
    compared = recorded.given.keys() & parameters.keys() - {"curriculum"}
    changed = sorted(name for name in compared if again.get(name) != parameters[name])
    rebuilt = build_system(None, parsed.system).model_dump(mode="json")
    expected = SystemConfig.model_validate(system).model_dump(mode="json")
    if changed or rebuilt != expected:
        raise LineageError(
            f"run {recorded.run_id} was given other parameters than this version has "
            f"({', '.join(changed) or 'system'}); repeat it with the commit that recorded it"
        )
