"""Which runs were given the same: a digest of everything that a stage is told, by which a suite finds finished work."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from drone_cbf.config import Section, SystemConfig
from projects.inputs.curriculum_levels import LEVELS, curriculum_of

NOT_COUNTED = ("resume_run", "checkpoint_every")
"""Parameters that change nothing of what comes out."""


def config_digest(stage: str, parameters: Section, system: SystemConfig | None) -> str:
    """SHA-256 (hexadecimal) of stage, parameters with the parent's run ID, and system.

    A curriculum counts by its content with the levels that were set, not by its place: edited, it is another one.
    Code and versions do not count; who uses a digest to save work says which commit the work came from.
    """
    told: dict[str, Any] = parameters.model_dump(mode="json", exclude=set(NOT_COUNTED))
    if "curriculum" in told:
        levels = {name: told.pop(name) for name in LEVELS if name in told}
        told["curriculum"] = curriculum_of(told["curriculum"], levels).model_dump(mode="json")
    content = {"stage": stage, "parameters": told, "system": system and system.model_dump(mode="json")}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
