"""Systems that are measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drone_cbf.config import SystemConfig
from projects.inputs.curriculum_files import load_curriculum


def curriculum_system(name: str, **sections: Mapping[str, Any]) -> SystemConfig:
    """The system with which a pipeline of the curriculum ``name`` trains, but for fields of ``sections``."""
    groups: dict[str, dict[str, Any]] = {}
    for setting, value in load_curriculum(name).trained_with.items():
        group, field = setting.split(".")
        groups.setdefault(group, {})[field] = value
    for group, fields in sections.items():
        groups[group] = {**groups.get(group, {}), **fields}
    return SystemConfig.model_validate(groups)
