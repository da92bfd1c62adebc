"""What every family of the registry promises: a new one is tested by being listed."""

import typing
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.config import GoalMode, SceneConfig, SceneName
from drone_cbf.scenes.families import FAMILIES, SWARMS, common_slots, make_scene_sampler
from drone_cbf.scenes.scene import perturb, thinned, turned
from drone_cbf.scenes.slots import Slots, first_slots, padded, slots_of
from tests.scenes.drawing import CONFIG, COUNT, QUICK, distances_at, drawn, nearest, sampler, scene_at

GOALS = typing.get_args(GoalMode)
ROUNDING = 1e-4
"""[m]: float32 at coordinates of up to 30 m, turned."""
PAGE = Path(__file__).parents[2] / "docs" / "DESIGN.md"

every_family = pytest.mark.parametrize("family", FAMILIES)
QUICKLY = ("forest", "moving", "mixed")
"""Vertical capsules in a wind, paths, and everything at once: for promises that each family compiles a program for."""
some_families = pytest.mark.parametrize(
    "family", [pytest.param(name, marks=() if name in QUICKLY else pytest.mark.slow) for name in FAMILIES]
)


def kinds(scene):
    return [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in jax.tree.leaves(scene)]


def test_every_name_that_settings_accept_is_a_family_and_described_in_the_design():
    assert set(FAMILIES | SWARMS) == set(typing.get_args(SceneName))
    assert not set(FAMILIES) & set(SWARMS)
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    for name, family in (FAMILIES | SWARMS).items():
        assert f"| `{name}` | {family.description} |" in rows


@every_family
def test_scenes_have_the_declared_slots_and_one_type_for_all_goals(family):
    own = FAMILIES[family].slots(CONFIG)
    made = [jax.eval_shape(make_scene_sampler(family, goals, CONFIG), jax.random.key(0)) for goals in GOALS]
    assert slots_of(made[0].obstacles) == own
    assert kinds(made[0]) == kinds(made[1]) == kinds(made[2])
    assert not any(weak for _, _, weak in kinds(made[0]))


def test_padded_to_common_slots_scenes_of_all_families_are_of_one_type():
    slots = common_slots(list(FAMILIES), CONFIG)
    made = [
        jax.eval_shape(make_scene_sampler(family, "random", CONFIG, slots), jax.random.key(0)) for family in FAMILIES
    ]
    assert all(kinds(scene) == kinds(made[0]) for scene in made)


@some_families
def test_padding_adds_unused_slots_behind_those_of_each_shape(family):
    own, slots = FAMILIES[family].slots(CONFIG), common_slots(list(FAMILIES), CONFIG)
    obstacles = drawn(family).obstacles
    wide = jax.jit(jax.vmap(lambda each: padded(each, slots)), compiler_options=QUICK)(obstacles)
    assert slots_of(wide) == slots
    jax.tree.map(np.testing.assert_array_equal, first_slots(wide, own), obstacles)
    assert not any(np.any(getattr(wide, shape).active[:, getattr(own, shape) :]) for shape in vars(own))


def test_a_padded_scene_is_the_same_scene():
    slots = common_slots(list(FAMILIES), CONFIG)
    sampler = jax.vmap(make_scene_sampler("boxes", "random", CONFIG, slots))
    wide = jax.jit(sampler, compiler_options=QUICK)(jax.random.split(jax.random.key(7), COUNT))
    own, scenes = FAMILIES["boxes"].slots(CONFIG), drawn("boxes")
    jax.tree.map(np.testing.assert_array_equal, wide.replace(obstacles=first_slots(wide.obstacles, own)), scenes)
    here, there = nearest(wide, wide.start), nearest(scenes, wide.start)
    np.testing.assert_allclose(here, there, rtol=3e-7)  # two programs round differently


def test_slots_that_are_too_few_are_refused():
    with pytest.raises(ValueError, match="boxes = 3 holds fewer than the 8 of the family; use common_slots"):
        make_scene_sampler("windows", "random", CONFIG, Slots(boxes=3))


@every_family
def test_start_and_goal_are_clear_and_all_is_finite(family):
    for goals in ("trained", "random"):
        scenes = drawn(family, goals)
        assert np.asarray(nearest(scenes, scenes.start)).min() >= CONFIG.clearance - ROUNDING
        assert np.asarray(nearest(scenes, scenes.goal)).min() >= CONFIG.clearance - ROUNDING
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(scenes))


@some_families
def test_the_same_key_gives_the_same_scene_and_another_key_another(family):
    again = sampler(family)(jax.random.split(jax.random.key(7), COUNT))
    jax.tree.map(np.testing.assert_array_equal, again, drawn(family))
    assert len(np.unique(np.asarray(drawn(family).start), axis=0)) == COUNT


@some_families
def test_goals_are_fixed_shifted_or_random(family):
    fixed, shifted, free = (np.unique(np.asarray(drawn(family, goals).goal), axis=0) for goals in GOALS)
    assert len(fixed) == len(shifted) == 1 and len(free) == COUNT
    assert 0.5 < np.linalg.norm(fixed - shifted) < 4.0


@every_family
def test_a_flight_can_arrive_in_ten_seconds(family):
    scenes = drawn(family)
    length = np.linalg.norm(np.asarray(scenes.goal - scenes.start), axis=-1)
    assert length.min() > 1.5 and length.max() < 30.0


@some_families
def test_turning_a_scene_turns_everything_at_all_times(family):
    scene, yaw = scene_at(drawn(family, "trained"), 1), 0.7
    after = turned(scene, jnp.float32(yaw), moving=FAMILIES[family].moving)
    rotation = np.array([[np.cos(yaw), -np.sin(yaw), 0.0], [np.sin(yaw), np.cos(yaw), 0.0], [0.0, 0.0, 1.0]])
    places = np.random.default_rng(0).uniform([0.0, -4.0, -0.9], [15.0, 4.0, 2.0], (200, 3)).astype(np.float32)
    for time in (0.0, 3.0):
        here = distances_at(scene.obstacles.at(time), places)
        there = distances_at(after.obstacles.at(time), (places @ rotation.T).astype(np.float32))
        np.testing.assert_allclose(there, here, atol=ROUNDING)
    np.testing.assert_allclose(after.goal, rotation @ np.asarray(scene.goal), atol=ROUNDING)


@some_families
def test_a_perturbed_scene_keeps_its_walls_and_paths_and_stays_clear(family):
    scenes, moving = drawn(family), FAMILIES[family].moving

    def one(scene, key):
        return perturb(scene, jnp.float32(1.0), CONFIG.clearance, key, moving=moving)

    keys = jax.random.split(jax.random.key(1), COUNT)
    after = jax.jit(jax.vmap(one), compiler_options=QUICK)(scenes, keys)
    assert np.asarray(nearest(after, after.start)).min() >= CONFIG.clearance - ROUNDING
    assert np.asarray(nearest(after, after.goal)).min() >= CONFIG.clearance - ROUNDING
    for shape in ("capsules", "boxes", "cylinders"):
        old, new = getattr(scenes.obstacles, shape), getattr(after.obstacles, shape)
        shift = np.abs(np.asarray(new.centre - old.centre)).max(axis=-1)
        kept = np.any(np.asarray(old.velocity) != 0.0, axis=-1)
        if shape == "boxes":
            kept |= np.asarray(old.half_size).max(axis=-1, initial=0.0) >= 1.0
        assert not np.any(shift[kept]) and np.all(shift[~kept] > 0.0) and shift.max(initial=0.0) <= 0.5 + ROUNDING
    if family in ("windows", "corridors"):
        jax.tree.map(np.testing.assert_array_equal, after.obstacles, scenes.obstacles)


@some_families
def test_thinning_removes_each_obstacle_by_chance_but_never_the_ground(family):
    scenes, keys = drawn(family), jax.random.split(jax.random.key(2), COUNT)
    thin = jax.jit(jax.vmap(thinned, in_axes=(0, None, 0)), compiler_options=QUICK)
    jax.tree.map(np.testing.assert_array_equal, thin(scenes, jnp.float32(1.0), keys), scenes)
    none, some = thin(scenes, jnp.float32(0.0), keys), thin(scenes, jnp.float32(0.3), keys)

    def active(scene):
        shapes = (scene.obstacles.capsules, scene.obstacles.boxes, scene.obstacles.cylinders)
        return np.concatenate([np.asarray(shape.active) for shape in shapes], axis=1)

    assert not active(none).any() and not np.any(active(some) & ~active(scenes))
    np.testing.assert_array_equal(none.obstacles.ground.active, scenes.obstacles.ground.active)
    total = active(scenes).sum()
    assert abs(active(some).sum() / total - 0.3) < 5.0 * np.sqrt(0.21 / total)


def test_settings_that_leave_no_room_are_refused_with_their_remedy():
    with pytest.raises(ValueError, match=r"boxes_spacing = 2.0 leaves less than boxes_gap = 1.0 .*>= 3.08.*raise it"):
        SceneConfig(boxes_spacing=2.0)
    with pytest.raises(ValueError, match=r"windows_length = 14.0 is too short for windows_walls = 4 .*raise it"):
        SceneConfig(windows_walls=4)
    with pytest.raises(ValueError, match=r"half width = 2.0 does not hold the openings .*> 2.3.*raise it"):
        SceneConfig(windows_half_extent=(2.0, 4.0))
    with pytest.raises(ValueError, match="mixed_moving = 40 exceeds the balls or boxes"):
        SceneConfig(mixed_moving=40)
    with pytest.raises(ValueError, match="moving_speed = .* must be ordered"):
        SceneConfig(moving_speed=(2.0, 1.0))
