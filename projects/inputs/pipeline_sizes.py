"""How large a pipeline is: as the command line says, else as its curriculum says, else as by default."""

from __future__ import annotations

from collections.abc import Mapping

from drone_cbf.errors import ConfigError
from projects.cli.arguments import check
from projects.cli.stage_parameters import PIPELINE_SIZES, PipelineParameters
from projects.inputs.curriculum_files import pipeline_section


def with_sizes(parameters: PipelineParameters) -> PipelineParameters:
    """``parameters`` with every size that they leave out.

    Raises:
        ConfigError: the curriculum does not exist, or its ``pipeline`` section is not valid.
    """
    section, path = pipeline_section(parameters.curriculum)
    if not isinstance(section, Mapping) or not section.keys() <= PIPELINE_SIZES.keys():
        raise ConfigError(f"curriculum {path}: pipeline = {section!r:.80}: give some of {', '.join(PIPELINE_SIZES)}")
    try:
        sizes = check(PipelineParameters, dict(section)).model_dump()
    except ConfigError as error:
        raise ConfigError(f"curriculum {path}: pipeline: {error}") from error
    left_out = {name for name in PIPELINE_SIZES if getattr(parameters, name) in (None, ())}
    return parameters.model_copy(
        update={name: PIPELINE_SIZES[name] if sizes[name] in (None, ()) else sizes[name] for name in left_out}
    )
