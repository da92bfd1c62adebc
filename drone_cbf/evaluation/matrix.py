"""The scenario matrix: the same scenes with the filter on and off."""

import functools
import itertools
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from drone_cbf.config import GoalMode, SceneConfig, SceneName, SystemConfig
from drone_cbf.controller import ControllerParams
from drone_cbf.devices import jit_rarely_run
from drone_cbf.evaluation.settings import EvaluationSettings
from drone_cbf.evaluation.statistics import rate_upper_bound
from drone_cbf.flights import Flown, Flyer, Kept, drones_of, fly_all, policy_flyer, scenes_at_once
from drone_cbf.objectives.metrics import FlightMetrics, flight_report
from drone_cbf.objectives.swarm_metrics import SMALLER_IS_WORSE as SWARM_SMALLER_IS_WORSE
from drone_cbf.scenes.families import SWARMS, drones_in, family_of, make_scene_sampler
from drone_cbf.scenes.growth import grown
from drone_cbf.scenes.scene import Scene, perturb, scene_count

SMALLER_IS_WORSE = frozenset({"success_rate", "smallest_clearance", "mean_speed", "rollouts"}) | SWARM_SMALLER_IS_WORSE
"""Metrics for which the smallest value is the worst; for all others it is the largest."""


@dataclass(frozen=True)
class Cell:
    """Metrics of one cell of the matrix."""

    scenario: SceneName
    noise: float
    goals: GoalMode
    filtered: bool
    figures: dict[str, float]
    speed: float | None = None  # Cruise speed that the drone is told [m/s]; None: the configured one
    drones: int | None = None  # That fly at once; None: the configured number

    @property
    def name(self) -> str:
        """``<scenario>/noise_<x>/<goals>`` and, at a speed of its own, ``/speed_<v>``, with a number of drones of its
        own ``/drones_<n>``, as in metric names."""
        return cell_name(self.scenario, self.noise, self.goals, self.speed, self.drones)

    @property
    def row(self) -> dict[str, object]:
        """The cell as a table row: ``scene``, ``noise``, ``goals``, ``speed`` and ``drones`` if given, ``filtered``,
        its metrics."""
        place = {"scene": self.scenario, "noise": self.noise, "goals": self.goals}
        own = {"speed": self.speed, "drones": self.drones}
        given = {name: value for name, value in own.items() if value is not None}
        return {**place, **given, "filtered": self.filtered, **self.figures}


def cell_name(
    scenario: SceneName, noise: float, goals: GoalMode, speed: float | None = None, drones: int | None = None
) -> str:
    """Name of a cell; also seeds its random numbers."""
    own = ("" if speed is None else f"/speed_{speed:g}") + ("" if drones is None else f"/drones_{drones}")
    return f"{scenario}/noise_{noise:g}/{goals}{own}"


Progress = Callable[[int, Cell], None]  # Called after each cell with its index


@dataclass(frozen=True)
class WatchedFlights:
    """Filtered flights of one cell with everything that determines them; leading axis of flights, of which a swarm's
    scene gives one for each drone, in order."""

    scenes: Scene  # Leading axis of scenes
    keys: jax.Array  # One for each scene
    metrics: FlightMetrics
    status: np.ndarray  # Status of the filter at each step, (flights, steps)
    end: np.ndarray  # Final position [m], (flights, 3)
    batch: int  # Scenes per call of the compiled function


Watch = Callable[[Cell, WatchedFlights], None]  # Called with each filtered cell, to keep flights for later examination


def cell_count(settings: EvaluationSettings, flyers: int) -> int:
    """Number of cells that :func:`evaluate_matrix` computes with ``flyers`` flyers."""
    speeds, swarms = len(settings.speeds) or 1, sum(name in SWARMS for name in settings.scenarios)
    families = len(settings.scenarios) - swarms + swarms * (len(settings.drones) or 1)
    return families * len(settings.noise) * len(settings.goals) * speeds * flyers


def numbers_of(scenario: SceneName, settings: EvaluationSettings) -> tuple[int | None, ...]:
    """Numbers of drones with which cells of a family are flown; None: the configured one."""
    return (settings.drones if scenario in SWARMS else ()) or (None,)


def make_flyers(system: SystemConfig, settings: EvaluationSettings, filtered: bool) -> dict[bool, Flyer]:
    """A flyer without filter and, if ``filtered``, one with it; shared by matrix and showcase."""
    kinds = (False, True) if filtered else (False,)
    return {kind: policy_flyer(system, kind, settings.horizon) for kind in kinds}


def evaluate_matrix(
    system: SystemConfig,
    settings: EvaluationSettings,
    controller: ControllerParams,
    flyers: Mapping[bool, Flyer],
    progress: Progress,
    watch: Watch = lambda cell, flights: None,
) -> list[Cell]:
    """Fly every cell with each of ``flyers`` on the same scenes and noise; call ``progress`` after each cell.

    Scenes and noise of different cells are independent, so flights of all cells are independent trials.
    """
    cells: list[Cell] = []
    speeds = settings.speeds or (None,)
    families = [(name, drones) for name in settings.scenarios for drones in numbers_of(name, settings)]
    cellwise = itertools.product(families, settings.goals, settings.noise, speeds)
    for (scenario, drones), goals, noise, speed in cellwise:
        scenes = sample_scenes(system, scenario, noise, goals, settings, speed, drones)
        keys = flight_keys(system, scenario, noise, goals, settings, speed, drones)
        for filtered in sorted(flyers, reverse=True):
            twin = not filtered and len(flyers) > 1
            wanted = min(settings.rollouts, settings.unfiltered_rollouts) if twin else settings.rollouts
            count = scene_count(wanted, drones or drones_in(scenario, system.scene))
            flights, status, end = fly_first(flyers[filtered], controller, scenes, noise, keys[:count], _watched)
            cells.append(Cell(scenario, noise, goals, filtered, cell_figures(flights), speed, drones))
            if filtered:
                size = scenes_at_once(count, drones_of(scenes))
                watch(cells[-1], WatchedFlights(scenes, keys[:count], flights, status, end, size))
            progress(len(cells) - 1, cells[-1])
    return cells


def _watched(flown: Flown) -> tuple[FlightMetrics, Any, Any]:
    return flown.metrics, flown.trajectories.decisions.status, flown.trajectories.last.position


def flight_keys(
    system: SystemConfig,
    scenario: SceneName,
    noise: float,
    goals: GoalMode,
    settings: EvaluationSettings,
    speed: float | None = None,
    drones: int | None = None,
) -> jax.Array:
    """Random keys of the scenes of a cell, the same with or without filter."""
    cell, flown = cell_name(scenario, noise, goals, speed, drones), drones or drones_in(scenario, system.scene)
    return _cell_keys(cell, settings, flown, purpose=1)


def sample_scenes(
    system: SystemConfig,
    scenario: SceneName,
    noise: float,
    goals: GoalMode,
    settings: EvaluationSettings,
    speed: float | None = None,
    drones: int | None = None,
) -> Scene:
    """The scenes of a cell (leading axis), the same with or without filter; flown at ``speed`` [m/s] if given, by that
    many ``drones`` at once if given."""
    config = system.scene if drones is None else grown(system.scene, drones)
    cell, count = cell_name(scenario, noise, goals, speed, drones), drones_in(scenario, config)
    scenes = _sampler(scenario, goals, config)(_cell_keys(cell, settings, count, purpose=0))
    if speed is not None:
        scenes = scenes.replace(cruise=jnp.full(len(scenes.wind), speed, jnp.float32))
    if settings.augment == 0.0:
        return scenes
    displace = _displacer(scenario, system.scene.clearance)
    amount = jnp.float32(settings.augment * system.sensor.length)
    return displace(scenes, amount, _cell_keys(cell, settings, count, purpose=2))


def _cell_keys(cell: str, settings: EvaluationSettings, drones: int, purpose: int) -> jax.Array:
    """One for each scene, in which ``drones`` fly at once."""
    root = jax.random.fold_in(jax.random.key(settings.seed), zlib.crc32(cell.encode()))
    count = scene_count(settings.rollouts, drones)
    return jax.random.split(jax.random.fold_in(root, purpose), count)


@functools.cache
def _sampler(scenario: SceneName, goals: GoalMode, config: SceneConfig) -> Callable[[jax.Array], Scene]:
    """Compiled once, for the matrix and its pictures."""
    return jit_rarely_run(jax.vmap(make_scene_sampler(scenario, goals, config)))


@functools.cache
def _displacer(scenario: SceneName, clearance: float) -> Callable[[Scene, jax.Array, jax.Array], Scene]:
    """(scenes, augment, keys) -> the same scenes displaced."""

    def displace(scene: Scene, augment: Array, key: jax.Array) -> Scene:
        return perturb(scene, augment, clearance, key, moving=family_of(scenario).moving)

    return jit_rarely_run(jax.vmap(displace, in_axes=(0, None, 0)))


def fly_first(
    fly: Flyer, params: ControllerParams, scenes: Scene, noise: float, keys: jax.Array, keep: Callable[[Flown], Kept]
) -> Kept:
    """``keep`` applied to the first ``len(keys)`` flights of a cell with these ``scenes``."""
    count = keys.shape[0]
    first = jax.tree.map(lambda x: x[:count], scenes)
    return fly_all(fly, params, first, jnp.full(count, noise, jnp.float32), keys, keep)


def cell_figures(flights: FlightMetrics) -> dict[str, float]:
    """Metrics of one cell by name; ``solver_failures`` counts steps flown by the braking fallback."""
    collisions, count = int(np.sum(flights.collision)), int(flights.collision.shape[0])
    return flight_report(flights) | {
        "collisions": float(collisions),
        "collision_rate_ub99": rate_upper_bound(collisions, count),
        "rollouts": float(count),
        "solver_failures": float(np.rint(np.sum(flights.fallback, dtype=float) * flights.violation.shape[1])),
    }


def worst_cell(cells: Sequence[Cell]) -> dict[str, float]:
    """Worst value of every metric over ``cells``; NaN (no flight reached the goal, for instance) is worst.

    ``collisions``, ``rollouts`` and ``solver_failures`` are totals, ``collision_rate_total_ub99`` is of all flights.
    """
    names = dict.fromkeys(name for cell in cells for name in cell.figures)  # those of swarms are not in every cell
    columns = {name: np.array([cell.figures[name] for cell in cells if name in cell.figures]) for name in names}
    worst = {name: float(x.min() if name in SMALLER_IS_WORSE else x.max()) for name, x in columns.items()}
    collisions, rollouts = int(columns["collisions"].sum()), int(columns["rollouts"].sum())
    return worst | {
        "collisions": float(collisions),
        "rollouts": float(rollouts),
        "solver_failures": float(columns["solver_failures"].sum()),
        "collision_rate_total_ub99": rate_upper_bound(collisions, rollouts),
    }
