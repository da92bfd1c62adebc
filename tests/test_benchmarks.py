"""The truth against which the benchmarks judge, and how they time."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.filter_problems import LIMIT, PENALTY, Problems, answers, random_problems
from benchmarks.timing import Timing, interleaved

ROOT = Path(__file__).resolve().parents[1]
STEP = 1e-6
ROUNDING = 1e-8 / STEP
"""Commands are exact to about 1e-12 m/s^2; squared and divided by the step of a difference."""


def squared(problems: Problems) -> np.ndarray:
    return np.sum(answers(problems).command ** 2, axis=1)


def test_the_gradients_of_the_truth_are_central_differences_of_its_commands() -> None:
    drawn = random_problems(300, 3)
    problems = Problems(*(np.asarray(part, float) for part in dataclasses.astuple(drawn)))
    truth = answers(problems)
    differences = np.zeros((300, 4))
    for axis in range(4):
        sides = []
        for sign in (1.0, -1.0):
            nominal, offset = problems.nominal.copy(), problems.offset.copy()
            if axis < 3:
                nominal[:, axis] += sign * STEP
            else:
                offset += sign * STEP
            sides.append(squared(Problems(problems.normal, offset, nominal)))
        differences[:, axis] = (sides[0] - sides[1]) / (2.0 * STEP)
    size = np.maximum(np.abs(truth.gradient), 1.0)
    off = np.abs(differences - truth.gradient) / size
    assert truth.is_smooth.mean() > 0.9 and off[truth.is_smooth].max() < ROUNDING


def test_no_admissible_command_near_the_truth_is_better() -> None:
    problems = random_problems(200, 5).scaled()
    command = answers(problems).command

    def cost(command: np.ndarray) -> np.ndarray:
        slack = np.maximum(problems.offset - np.sum(problems.normal * command, axis=1), 0.0)
        return 0.5 * np.sum((command - problems.nominal) ** 2, axis=1) + PENALTY * slack

    rng, best = np.random.default_rng(0), cost(command)
    for distance in (1e-3, 0.1, 3.0):
        other = np.clip(command + distance * rng.normal(size=command.shape), -LIMIT, LIMIT)
        assert np.all(cost(other) >= best - 1e-9)


def test_repeats_are_interleaved_slow_functions_are_repeated_less_and_failures_are_told() -> None:
    order: list[str] = []

    def fast() -> None:
        order.append("fast")

    def slow() -> None:
        order.append("slow")
        time.sleep(0.02)

    def broken() -> None:
        raise ValueError("no such solver")

    found = interleaved({"fast": fast, "slow": slow, "broken": broken}, repeats=20, seconds=0.05)
    assert order[:4] == ["fast", "slow", "fast", "slow"]
    fast_timing, slow_timing = found["fast"], found["slow"]
    assert isinstance(fast_timing, Timing) and isinstance(slow_timing, Timing)
    assert fast_timing.repeats > slow_timing.repeats >= 1 and slow_timing.milliseconds >= 20.0
    assert found["broken"] == "ValueError: no such solver"


@pytest.mark.parametrize("seed", [0, 1])
def test_problems_meet_violate_and_exceed_what_the_limits_allow(seed: int) -> None:
    problems = random_problems(1000, seed)
    truth = answers(problems)
    reached = np.sum(problems.normal * truth.command, axis=1)
    missed = reached < problems.offset - 1e-4 * np.abs(problems.normal).max(axis=1)
    acts = np.abs(truth.command - np.clip(problems.nominal, -LIMIT, LIMIT)).max(axis=1) > 1e-6
    assert 0.03 < missed.mean() < 0.3 and 0.5 < acts.mean() < 0.95


def test_importing_the_harness_computes_nothing_so_that_a_section_may_still_choose_devices_and_flags() -> None:
    asked = "import benchmarks.harness, jax; jax.config.update('jax_num_cpu_devices', 3); print(jax.device_count())"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "3", done.stderr


def test_the_figure_of_swarms_shows_what_a_step_costs_at_the_largest_batch() -> None:
    from benchmarks.swarm_section import PILOTS, figure

    rates = {8: (100.0, 50.0), 32: (80.0, 40.0)}
    rows = [
        {"batch": batch, "model": f"{drones} drones"}
        | {f"{name} [k/s of one core]": rate * batch / 64.0 for name, rate in zip(PILOTS, rates[drones], strict=True)}
        for batch in (64, 32)
        for drones in rates
    ]
    (axes,) = figure([*rows, {"batch": 64, "model": "128 drones", "note": "out of memory"}]).axes
    drawn = {str(line.get_label()): np.array(line.get_xydata()) for line in axes.lines}
    np.testing.assert_allclose(drawn["policy"], [[8, 10.0], [32, 12.5]])
    np.testing.assert_allclose(drawn["with barrier and filter"], [[8, 20.0], [32, 25.0]])
