"""The configuration refuses what makes no sense, and its defaults change only on purpose."""

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from drone_cbf.config import (
    BarrierConfig,
    ObjectiveConfig,
    OptimiserConfig,
    PhysicsConfig,
    SceneConfig,
    Section,
    SystemConfig,
)

GOLDEN = Path(__file__).parent / "golden" / "system_config.yaml"
REGENERATE = "if the change is meant: python -m tests.test_config"


def resolved() -> str:
    """The resolved defaults as text."""
    return yaml.safe_dump(SystemConfig().model_dump(mode="json"), sort_keys=False)


def sections(config: Section):
    yield config
    for value in dict(config).values():
        if isinstance(value, Section):
            yield from sections(value)


def test_the_defaults_are_those_of_the_golden_file():
    assert GOLDEN.exists(), f"{GOLDEN.name} is missing; {REGENERATE}"
    assert GOLDEN.read_text() == resolved(), f"resolved defaults differ from {GOLDEN.name}; {REGENERATE}"


def test_the_resolved_configuration_survives_a_round_trip_through_yaml():
    changed = SystemConfig(physics=PhysicsConfig(delay=0.075), scene=SceneConfig(cloud_radius=(0.2, 0.3)))
    text = yaml.safe_dump(changed.model_dump(mode="json"))
    assert SystemConfig.model_validate(yaml.safe_load(text)) == changed


@pytest.mark.parametrize("section", list(sections(SystemConfig())), ids=lambda s: type(s).__name__)
def test_an_unknown_key_is_refused_everywhere_and_named(section):
    with pytest.raises(ValidationError, match="colour"):
        type(section).model_validate({"colour": 1.0})


@pytest.mark.parametrize("section", list(sections(SystemConfig())), ids=lambda s: type(s).__name__)
def test_a_section_cannot_be_changed_after_it_was_built(section):
    name = next(iter(type(section).model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(section, name, getattr(section, name))
    assert hash(section) == hash(type(section).model_validate(section.model_dump()))


def bounds():
    """Every bound of every field: (section type, field, a value just beyond it)."""
    for section in [*sections(SystemConfig()), OptimiserConfig()]:
        for name, field in type(section).model_fields.items():
            for rule in field.metadata:
                for kind, beyond in (("ge", -1), ("gt", 0), ("le", 1), ("lt", 0)):
                    if getattr(rule, kind, None) is not None:
                        yield pytest.param(type(section), name, getattr(rule, kind) + beyond, id=f"{name}-{kind}")


@pytest.mark.parametrize(("section", "name", "value"), list(bounds()))
def test_a_value_beyond_its_range_is_refused_and_the_field_named(section, name, value):
    with pytest.raises(ValidationError) as caught:
        section.model_validate({name: value})
    assert caught.value.errors()[0]["loc"][0] == name


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        (PhysicsConfig, "time_step", 0.0),
        (PhysicsConfig, "delay", -0.01),
        (PhysicsConfig, "max_acceleration", (9.0, 9.0, 0.0)),
        (PhysicsConfig, "max_acceleration", (9.0, 9.0)),
        (PhysicsConfig, "max_acceleration", (float("inf"), 9.0, 9.0)),
        (ObjectiveConfig, "goal", float("nan")),
        (SceneConfig, "obstacles", 0),
        (BarrierConfig, "kind", "distance"),
        (BarrierConfig, "temperature", 0.0),
        (BarrierConfig, "braking", "fast"),
        (OptimiserConfig, "warmup", 1.5),
    ],
)
def test_these_settings_are_refused(section, name, value):
    with pytest.raises(ValidationError) as caught:
        section.model_validate({name: value})
    assert caught.value.errors()[0]["loc"][0] == name


@pytest.mark.parametrize("weakest", [0, 1, 2])
def test_a_barrier_may_not_promise_to_brake_harder_than_the_weakest_axis(weakest):
    limits = [20.0, 20.0, 20.0]
    limits[weakest] = 4.0
    physics = PhysicsConfig(max_acceleration=tuple(limits))
    assert SystemConfig(physics=physics, barrier=BarrierConfig(braking=4.0)).barrier.braking == 4.0
    with pytest.raises(ValidationError, match=r"braking = 4\.1 .* = 4\.0; lower barrier\.braking"):
        SystemConfig(physics=physics, barrier=BarrierConfig(braking=4.1))


def test_a_drone_in_the_plane_need_not_brake_along_the_axis_that_it_lacks():
    plane = PhysicsConfig(model="double_integrator", max_acceleration=(20.0, 8.0, 1.0))
    assert plane.reach == (10.0, 8.0, 0.0)
    assert SystemConfig(physics=plane, barrier=BarrierConfig(braking=8.0)).barrier.braking == 8.0
    with pytest.raises(ValidationError, match=r"braking = 8\.1 .* = 8\.0 that physics.model = double_integrator"):
        SystemConfig(physics=plane, barrier=BarrierConfig(braking=8.1))


def test_no_flight_is_told_to_fly_faster_than_the_fastest():
    assert ObjectiveConfig(max_speed=6.0, slowest_cruise=6.0).slowest_cruise == 6.0
    with pytest.raises(ValidationError, match=r"slowest_cruise = 6\.5 exceeds objective\.max_speed = 6\.0; lower it"):
        ObjectiveConfig(max_speed=6.0, slowest_cruise=6.5)


@pytest.mark.parametrize("name", ["cloud_obstacles", "ring_obstacles"])
def test_a_family_may_not_need_more_obstacles_than_there_are_slots(name):
    slots = {"obstacles": 10, "cloud_obstacles": 10, "ring_obstacles": 10}
    assert SceneConfig(**slots).obstacles == 10
    with pytest.raises(ValidationError, match=f"{name} = 11 exceeds obstacles = 10; raise obstacles"):
        SceneConfig(**(slots | {name: 11}))


@pytest.mark.parametrize("name", ["cloud_radius", "forest_radius"])
def test_a_pair_of_radii_must_be_ordered(name):
    assert SceneConfig(**{name: (0.3, 0.3)})
    with pytest.raises(ValidationError, match=f"{name} = .* must be ordered"):
        SceneConfig(**{name: (0.4, 0.3)})


FOREST_REFUSALS = [
    (
        {"forest_length": 23.0},
        {"forest_length": 22.9},
        "forest_length = 23.0 with forest_spacing = 3.0 takes a row of 7 trees, more than obstacles = 6; "
        "raise obstacles or forest_spacing, or lower forest_length",
    ),
    (
        {"forest_spacing": 2.5},
        {"forest_spacing": 2.6},
        "forest_length = 20.0 with forest_spacing = 2.5 takes a row of 7 trees, more than obstacles = 6; "
        "raise obstacles or forest_spacing, or lower forest_length",
    ),
    (
        {"forest_spacing": 18.1},
        {"forest_spacing": 18.0},
        "forest_spacing = 18.1 exceeds the 18 m that forest_length = 20.0 leaves for trees; "
        "lower forest_spacing or raise forest_length",
    ),
    (
        {"forest_jitter": 1.11},
        {"forest_jitter": 1.1},
        "forest_jitter = 1.11 lets trees leave their cells and overlap (allowed with forest_spacing = 3.0 and trunks "
        "of 0.4 m: <= 1.1); lower forest_jitter or raise forest_spacing",
    ),
    (
        {"forest_radius": (0.1, 0.71)},
        {"forest_radius": (0.1, 0.7)},
        "forest_jitter = 0.8 lets trees leave their cells and overlap (allowed with forest_spacing = 3.0 and trunks "
        "of 0.71 m: <= 0.79); lower forest_jitter or raise forest_spacing",
    ),
]


@pytest.mark.parametrize(("refused", "accepted", "message"), FOREST_REFUSALS)
def test_a_forest_that_cannot_stand_as_it_is_described_is_refused_with_the_remedy(refused, accepted, message):
    slots = {"obstacles": 6, "cloud_obstacles": 6, "ring_obstacles": 6}
    assert SceneConfig(**slots, **accepted)
    with pytest.raises(ValidationError) as caught:
        SceneConfig(**slots, **refused)
    assert caught.value.errors()[0]["msg"] == f"Value error, {message}"


def test_every_field_is_described():
    missing = [
        f"{type(section).__name__}.{name}"
        for section in [*sections(SystemConfig()), OptimiserConfig()]
        for name, field in type(section).model_fields.items()
        if not field.description and not isinstance(field.default, Section)
    ]
    assert not missing


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(resolved())
    print(f"written: {GOLDEN}")
