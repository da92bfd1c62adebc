"""Whatever is written on a command line or in a file is used, or refused on one line; nothing else comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import strategies as st

from drone_cbf.config import SystemConfig
from drone_cbf.documents import UnreadableError, parse_json, parse_yaml
from drone_cbf.tracking.checkpoints.certificates import recorded_system
from drone_cbf.training.curriculum.mechanisms import Learning, LossWeights, Monitor
from drone_cbf.training.curriculum.schema import Curriculum, Stage
from projects.cli.arguments import as_command, build_system, names, parse, resume_request
from projects.cli.stage_parameters import PIPELINE_SIZES, PipelineParameters
from projects.inputs.curriculum_files import load_curriculum, with_sizes
from projects.inputs.gate_files import load_gates
from projects.running.entry_points import ENTRY_POINTS
from tests.properties.inputs import altered, both, hold, is_finite, refused_or, scalars, texts, values

SECTIONS = (Curriculum, Stage, Learning, LossWeights, Monitor)
CURRICULUM_NAMES = sorted({name for section in SECTIONS for name in section.model_fields} | {"extends", "pipeline"})
CURRICULUM = {
    "name": "mine",
    "system": {"filter.penalty": 10.0},
    "learning": {"weights": {"distill": 0.1}, "strata": ["open:1", "gap:0.5"], "ema": 0.5},
    "monitor": {"every": 5, "gate": "warn"},
    "pipeline": {"rollouts": 8, "scenes": ["forest"]},
    "stages": [{"name": "a", "steps": 2, "noise": 0.1, "weights": {"distill": 1.0}}],
}
GATES = {"gates": [{"metric": "eval/success_rate", "at_least": 0.9, "worse_by": 0.1}], "by_sensor": {}}


@both
@pytest.mark.parametrize("entry", ENTRY_POINTS)
def test_every_parameter_of_every_entry_point(entry: str, often: int) -> None:
    point = ENTRY_POINTS[entry]
    known = st.sampled_from(names(point.parameters, point.system))
    needed = [f"--{name}=x" for name in ("parent_run", "run", "runs") if name in point.parameters.model_fields]
    word = st.tuples(st.one_of(known, known, known, texts), texts).map(lambda pair: f"--{pair[0]}={pair[1]}")

    def check(words: list[str]) -> None:
        words = [*(each for each in needed if not any(w.startswith(each.split("=")[0]) for w in words)), *words]
        resume_request(point.parameters, words)
        given = refused_or(lambda: parse(entry, point.parameters, words, point.system))
        if given is not None:
            assert all(is_finite(value) for _, value in given.parameters)
            assert as_command(entry, given).isprintable()
            refused_or(lambda: build_system(None, given.system))

    hold(st.lists(st.one_of(word, word, word, texts), min_size=1, max_size=3), check, 30, often)


@both
def test_every_curriculum(often: int, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"

    def check(content: Any) -> None:
        file.write_text(yaml.safe_dump(content), encoding="utf-8")
        curriculum = refused_or(lambda: load_curriculum(str(file)))
        assert curriculum is None or (curriculum.stages and curriculum.name.isprintable())
        sized = refused_or(lambda: with_sizes(PipelineParameters(curriculum=str(file))))
        assert sized is None or all(getattr(sized, name) is not None for name in PIPELINE_SIZES)

    hold(altered(CURRICULUM, st.sampled_from(CURRICULUM_NAMES)), check, 170, often)


@both
def test_every_file_of_gates(often: int, tmp_path: Path) -> None:
    file = tmp_path / "gates.yaml"

    def check(content: Any) -> None:
        file.write_text(yaml.safe_dump(content), encoding="utf-8")
        gates = refused_or(lambda: load_gates(str(file)))
        assert gates is None or all(is_finite(gate.limit) for gate in gates.gates)

    keys = st.sampled_from(["gates", "by_sensor", "metric", "at_least", "at_most", "worse_by", "lidar"])
    one = st.dictionaries(keys, scalars, max_size=4).map(lambda gate: {**GATES, "gates": [gate]})
    hold(st.one_of(altered(GATES, keys), one), check, 100, often)


@both
def test_every_recorded_system(often: int) -> None:
    system = SystemConfig().model_dump(mode="json")
    keys = st.sampled_from([*system, *system["physics"]])

    def check(config: Any) -> None:
        found = refused_or(lambda: recorded_system(config, "config.yaml"))
        assert found is None or isinstance(found, SystemConfig)

    hold(altered({"system": system}, keys), check, 80, often)


@both
def test_every_document(often: int) -> None:
    pieces = st.sampled_from(
        ["[", "]", "{", "}", ":", "- ", "\n", " ", "&a", "*a", "<<: *a", "a: ", '"', "!!", "? ", "#", "\0"]
    )
    document = st.one_of(st.binary(max_size=60), st.text(max_size=60), st.lists(pieces, max_size=30).map("".join))

    def check(content: Any) -> None:
        for read in (parse_yaml, parse_json):
            reason = ""
            try:
                read(content)
            except UnreadableError as error:
                reason = str(error)
            assert "\n" not in reason

    hold(st.one_of(document, values(texts).map(yaml.safe_dump)), check, 100, often)
