"""The file of a sweep: what it may search, and how it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from drone_cbf.errors import ConfigError
from projects.inputs.sweep_files import EXAMPLE, FOLDER, known_names, load_sweep
from projects.running.entry_points import ENTRY_POINTS

RATE = "safety.learning_rate"


def written(folder: Path, **content: Any) -> str:
    path = folder / "mine.yaml"
    base = {"name": "mine", "space": {RATE: {"type": "float", "low": 1e-4, "high": 1e-2}}}
    path.write_text(yaml.safe_dump(base | content))
    return str(path)


def one(name: str, **searched: Any) -> dict[str, Any]:
    return {"space": {name: searched}}


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_shipped_sweep_is_valid_and_bears_its_files_name(file: Path) -> None:
    assert load_sweep(file.stem).name == file.stem
    assert (Path(__file__).resolve().parents[2] / EXAMPLE).is_file()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (one(RATE, type="float", low=0.1, high=2.0), f"space.{RATE}: high = 2.0 is refused (allowed: > 0, <= 1)"),
        (
            one("safety.batch", type="int", low=0, high=8),
            "space.safety.batch: low = 0 is refused (allowed: >= 1, <= 4096)",
        ),
        (one("filter.penalty", type="float", low=1.0, high=1e7), "space.filter.penalty: high = 10000000.0 is refused"),
        (
            one("filter.solver", type="categorical", choices=["exact", "exct"]),
            "choice = exct is refused (allowed: exact, qpax, projected_gradient)",
        ),
        (
            one("safety.scenes", type="categorical", choices=["forest", "forest,boxs"]),
            "choice = forest,boxs is refused",
        ),
        (one("safety.batch", type="float", low=1, high=8), "type = float does not fit this setting; write type: int"),
        (one("safety.curriculum", type="int", low=1, high=8), "write type: categorical"),
        (one("safety.learning_rat", type="float", low=0.1, high=0.2), f"did you mean {RATE}?"),
        (one("penalty", type="float", low=0.1, high=0.2), "did you mean filter.penalty?"),
        (one("safety.parent_run", type="categorical", choices=["a", "b"]), "safety.parent_run is no setting"),
        (one("safety.seeds", type="categorical", choices=["0,1", "2,3"]), "safety.seeds is no setting"),
        (one("evaluate.noise", type="categorical", choices=["0", "0.1"]), "would measure every trial by other flights"),
        (one(RATE, type="float", low=0.2, high=0.1), "low = 0.2 is not below high = 0.1"),
        (one(RATE, type="float", low=0.0, high=0.1, log=True), "low = 0 has no logarithm"),
        (one("safety.batch", type="int", low=1, high=8, log=True, step=2), "step = 2 does not go with log = true"),
        (one("filter.solver", type="categorical", choices=["exact", "exact"]), "holds exact twice"),
        ({"space": {}}, "space"),
        ({"spce": {}}, "spce is unknown"),
        ({"given": {RATE: 0.001}}, f"space.{RATE} is also in given; leave one of them out"),
        ({"given": {"safety.batch": 0}}, "given.safety.batch = 0 is refused (allowed: >= 1, <= 4096)"),
        ({"objective": {"metric": "eval/success_rate", "direction": "up"}}, "objective.direction = 'up'"),
        (
            one("efficiency.steps", type="int", low=1, high=8) | {"begins": "safety"},
            "is of a stage that is trained before begins = safety",
        ),
    ],
)
def test_what_no_stage_takes_is_refused_with_field_value_range_and_remedy(
    tmp_path: Path, content: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_sweep(written(tmp_path, **content))
    told = str(caught.value)
    assert message in told and "mine.yaml" in told and "\n" not in told


def test_a_sweep_that_does_not_exist_is_answered_with_those_that_do() -> None:
    with pytest.raises(ConfigError, match=r"space = fats does not exist; did you mean fast\? Else name one of fast"):
        load_sweep("fats")


@pytest.mark.parametrize(
    ("content", "first"),
    [
        (one(RATE, type="float", low=0.1, high=0.2), "safety"),
        (one("pretrain_cbf.steps", type="int", low=1, high=8), "pretrain_cbf"),
        (one("filter.penalty", type="float", low=1.0, high=2.0), "efficiency"),
        (one("filter.penalty", type="float", low=1.0, high=2.0) | {"begins": "safety"}, "safety"),
    ],
)
def test_trials_begin_at_the_first_stage_that_the_search_touches_unless_the_file_says_otherwise(
    tmp_path: Path, content: dict[str, Any], first: str
) -> None:
    assert load_sweep(written(tmp_path, **content)).first_stage == first


def test_every_setting_of_every_stage_and_of_the_system_has_a_name_here() -> None:
    """No stage's name is also that of a group of the system: a name would mean two things."""
    known = known_names()
    assert len(known) == len(set(known))
    for stage in ("efficiency", "pretrain_cbf", "safety"):
        fields = set(ENTRY_POINTS[stage].parameters.model_fields) - {"parent_run", "resume_run", "init_run", "seeds"}
        assert {f"{stage}.{name}" for name in fields} <= set(known)
    assert {"filter.penalty", "physics.lag_time", "barrier.features"} <= set(known)
