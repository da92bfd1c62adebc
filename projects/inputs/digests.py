"""A digest of all settings of a stage, by which a suite finds work that is done already."""

from __future__ import annotations

import hashlib
import json

from drone_cbf.config import Section, SystemConfig
from projects.inputs.curriculum_files import load_curriculum
from projects.inputs.curriculum_levels import LEVELS, with_levels

NOT_COUNTED = ("resume_run", "checkpoint_every")
"""Parameters that do not change the results."""


def config_digest(stage: str, parameters: Section, system: SystemConfig | None) -> str:
    """SHA-256 (hexadecimal) of the stage, its parameters (with the parent's run ID) and its system.

    Taken over :meth:`Section.comparable`, so that a field added later changes only runs that use it. A curriculum
    counts by its content with its levels, not by its path. Code and versions do not count.
    """
    counted = {name: value for name, value in parameters.comparable().items() if name not in NOT_COUNTED}
    if "curriculum" in counted:
        levels = {name: counted.pop(name) for name in LEVELS if name in counted}
        counted["curriculum"] = with_levels(load_curriculum(counted["curriculum"]), levels).comparable()
    content = {"stage": stage, "parameters": counted, "system": system and system.comparable()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
