"""The environments as Gymnasium sees them: checks, seeds, batches, IDs."""

from __future__ import annotations

import importlib
import sys
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import drone_cbf
import drone_cbf.gym
from drone_cbf.config import SensorConfig
from drone_cbf.gym.registration import IDS
from drone_cbf.gym.single import DroneEnv
from drone_cbf.gym.vector import DroneVectorEnv
from drone_cbf.scenes.families import FAMILIES
from tests.perception.worlds import few_obstacles, lidar_system, small_system

SYSTEM = lidar_system(rays=(8, 4), scene=few_obstacles(3))
CAMERA = small_system(sensor=SensorConfig(kind="depth", depth_width=16, depth_height=12), scene=few_obstacles(3))
SHORT, NOISE = 4, 0.05


@pytest.fixture(scope="module")
def environment() -> DroneEnv:
    """Compiled once."""
    return DroneEnv(system=SYSTEM, horizon=SHORT, noise=NOISE)


def checked(environment: DroneEnv) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(environment, skip_render_check=True)


def test_gymnasium_finds_nothing_to_say_about_range_scans(environment: DroneEnv) -> None:
    checked(environment)


@pytest.mark.slow
@pytest.mark.parametrize("system", [small_system(scene=few_obstacles(3)), CAMERA], ids=["surfaces", "depth"])
def test_gymnasium_finds_nothing_to_say_about_other_sensors(system: drone_cbf.SystemConfig) -> None:
    environment = DroneEnv("forest", system=system, noise=NOISE)
    checked(environment)
    assert ("image" in environment.observation_space.spaces) == (system.sensor.kind == "depth")


def episodes(environment: DroneEnv, seed: int, steps: int) -> list[tuple[Any, ...]]:
    """Observation, reward and end of each step, under actions that the seed decides; resets where an episode ends."""
    random = np.random.default_rng(seed)
    seen, _ = environment.reset(seed=seed)
    told: list[tuple[Any, ...]] = [(seen, 0.0, False, False)]
    for _ in range(steps):
        action = random.uniform(-0.2, 0.2, 3).astype(np.float32)
        if told[-1][2] or told[-1][3]:
            told.append((environment.reset()[0], 0.0, False, False))
        else:
            told.append(environment.step(action)[:4])
    return told


def assert_same(one: list[tuple[Any, ...]], other: list[tuple[Any, ...]], tolerance: float = 0.0) -> None:
    for (seen, *rest), (expected, *others) in zip(one, other, strict=True):
        assert seen.keys() == expected.keys()
        for name, values in seen.items():
            np.testing.assert_allclose(values, expected[name], atol=tolerance, err_msg=name)
        np.testing.assert_allclose(rest, others, atol=tolerance)


def test_a_seed_decides_every_episode_that_follows(environment: DroneEnv) -> None:
    first = episodes(environment, 5, 3 * SHORT)
    assert_same(first, episodes(environment, 5, 3 * SHORT))
    assert not np.array_equal(first[0][0]["goal"], episodes(environment, 6, 0)[0][0]["goal"])
    ends = [index for index, step in enumerate(first) if step[3]]
    assert ends == [SHORT, 2 * SHORT + 1] and not np.array_equal(first[0][0]["goal"], first[SHORT + 1][0]["goal"])


def test_drone_i_of_a_batch_flies_as_a_single_one_whose_seed_is_i_more(environment: DroneEnv) -> None:
    many = DroneVectorEnv(3, system=SYSTEM, horizon=SHORT, noise=NOISE)
    randoms = [np.random.default_rng(7 + index) for index in range(3)]
    seen, _ = many.reset(seed=7)
    told = [(seen, np.zeros(3), np.zeros(3, bool), np.zeros(3, bool))]
    for _ in range(2 * SHORT):
        actions = np.stack([random.uniform(-0.2, 0.2, 3).astype(np.float32) for random in randoms])
        assert many.action_space.contains(actions)
        told.append(many.step(actions)[:4])
        assert many.observation_space.contains(told[-1][0])
    for index in range(3):
        row = [({name: v[index] for name, v in step[0].items()}, *(part[index] for part in step[1:])) for step in told]
        assert_same(row, episodes(environment, 7 + index, 2 * SHORT), tolerance=2e-5)


def test_every_family_has_an_id_and_registering_twice_is_registering_once() -> None:
    drone_cbf.register_gymnasium()
    before = len(gymnasium.registry)
    drone_cbf.register_gymnasium()
    assert len(gymnasium.registry) == before and set(IDS) == set(FAMILIES)
    made = gymnasium.make("DroneCbf/windows-v0", system={"sensor": {"kind": "lidar"}}, horizon=7)
    assert isinstance(made.unwrapped, DroneEnv) and made.unwrapped.system.sensor.kind == "lidar"
    assert made.unwrapped.observation_space["points"].shape == (512, 3)


def test_without_gymnasium_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "gymnasium", None)
        with pytest.raises(ModuleNotFoundError, match=r"needs gymnasium; install it: pip install -e '.\[gym\]'"):
            importlib.reload(drone_cbf.gym)
    importlib.reload(drone_cbf.gym)
