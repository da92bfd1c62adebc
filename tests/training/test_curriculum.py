"""Curricula: what is refused, and that the message names file, field and value."""

import pytest
from pydantic import ValidationError

from drone_cbf.errors import ConfigError
from drone_cbf.training.curriculum.schema import Curriculum, Stage, parse_curriculum


def content(**stage):
    return {"name": "short", "stages": [{"name": "one", "steps": 3} | stage, {"name": "two", "steps": 4}]}


def test_a_curriculum_knows_its_stages_and_its_length():
    parsed = parse_curriculum(content(noise=0.05, horizon=20), "short.yaml")
    assert [stage.name for stage in parsed.stages] == ["one", "two"]
    assert parsed.total_steps == 7 and parsed.stages[0].noise == 0.05


@pytest.mark.parametrize(
    ("wrong", "field", "value"),
    [
        (content(noise=-0.5), "stages.0.noise", "-0.5"),
        (content(horizon=0), "stages.0.horizon", "0"),
        (content(colour="red"), "stages.0.colour", "is unknown; the names are name, steps"),
        (content(name="a/b"), "stages.0.name", "'a/b'"),
        (content(success_threshold=1.5), "stages.0.success_threshold", "1.5"),
        ({"name": "empty", "stages": []}, "stages", "[]"),
        (content() | {"learning": {"strata": ["gaps:1"]}}, "learning.strata", "'gaps' is not one of open, boundary"),
    ],
)
def test_an_error_names_file_field_and_value(wrong, field, value):
    with pytest.raises(ConfigError) as caught:
        parse_curriculum(wrong, "folder/short.yaml")
    message = str(caught.value)
    assert "folder/short.yaml" in message and field in message and value in message
    assert "\n" not in message and "default.yaml" in message
    assert isinstance(caught.value.__cause__, ValidationError)


@pytest.mark.parametrize("missing", ["name", "stages"])
def test_a_missing_field_is_named(missing):
    wrong = {key: value for key, value in content().items() if key != missing}
    with pytest.raises(ConfigError, match=rf"short\.yaml: {missing}: Field required"):
        parse_curriculum(wrong, "short.yaml")


@pytest.mark.parametrize("wrong", [None, [1, 2], "text"])
def test_a_document_that_is_no_mapping_is_refused(wrong):
    with pytest.raises(ConfigError, match=r"short\.yaml: expected a mapping"):
        parse_curriculum(wrong, "short.yaml")


def test_a_penalty_that_would_act_backwards_is_refused():
    """MGDA gives the longer of two gradients the smaller share."""
    balanced = content() | {"learning": {"balance": "mgda"}, "monitor": {"every": 2}}
    message = r"short\.yaml: .*monitor\.penalty_boost = 2 with learning\.balance = mgda.* set it to 1"
    with pytest.raises(ConfigError, match=message):
        parse_curriculum(balanced, "short.yaml")
    balanced["monitor"]["penalty_boost"] = 1.0
    assert parse_curriculum(balanced, "short.yaml").monitor.penalty_boost == 1.0
    assert parse_curriculum(balanced | {"monitor": {}}, "short.yaml").monitor.every == 0


def test_a_curriculum_needs_a_stage():
    with pytest.raises(ValidationError):
        Curriculum(name="none", stages=())
    assert Curriculum(name="one", stages=(Stage(name="a", steps=1),)).total_steps == 1
