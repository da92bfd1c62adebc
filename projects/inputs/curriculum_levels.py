"""Single levels of a curriculum, set for one run: ``-P noise_levels=0,0.02,0.05``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from drone_cbf.errors import ConfigError
from drone_cbf.training.curriculum.schema import Curriculum, Stage
from projects.cli.stage_parameters import SafetyParameters
from projects.inputs.curriculum_files import load_curriculum

LEVELS = {"noise_levels": "noise", "blend_levels": "blend", "augment_levels": "augment", "stage_steps": "steps"}
"""Parameter of the safety stage -> the field of a curriculum's stages that it sets."""
LONGEST_NAME = 60


def named_curriculum(parameters: SafetyParameters) -> Curriculum:
    """The curriculum that the parameters name, with the levels that they set."""
    return with_levels(load_curriculum(parameters.curriculum), {name: getattr(parameters, name) for name in LEVELS})


def with_levels(curriculum: Curriculum, levels: Mapping[str, Sequence[float]]) -> Curriculum:
    """``curriculum`` with these ``levels``: one value for all stages, or one for each; none: as it is.

    A changed curriculum is another one: its name ends in ``*`` and a digest of its stages.

    Raises:
        ConfigError: there are more or fewer values than stages.
    """
    stages = [stage.model_dump() for stage in curriculum.stages]
    for name, values in levels.items():
        if len(values) not in (0, 1, len(stages)):
            given = ",".join(f"{value:g}" for value in values)
            names = ", ".join(stage.name for stage in curriculum.stages)
            wanted = "1 value" if len(stages) == 1 else f"{len(stages)} values, or one for all of them"
            raise ConfigError(
                f"{name} = {given} has {len(values)} values, and curriculum {curriculum.name} has {len(stages)} "
                f"stages ({names}); give {wanted}"
            )
        every = list(values) * len(stages) if len(values) == 1 else values
        for stage, value in zip(stages, every, strict=False):
            stage[LEVELS[name]] = value
    changed = tuple(Stage.model_validate(stage) for stage in stages)
    if changed == curriculum.stages:
        return curriculum
    text = json.dumps([stage.comparable() for stage in changed], sort_keys=True)
    mark = f"*{hashlib.sha256(text.encode()).hexdigest()[:6]}"
    plain = curriculum.name.partition("*")[0][: LONGEST_NAME - len(mark)]
    return curriculum.model_copy(update={"stages": changed, "name": plain + mark})


def blend_flown(asked: str, curriculum: Curriculum) -> str:
    """The blend to evaluate with, as ``asked``; ``last``: the last stage's, so that what was trained is measured."""
    return str(curriculum.stages[-1].blend) if asked == "last" else asked
