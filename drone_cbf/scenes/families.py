"""The registries of scene families. A new one is a file beside this one, a line here, and its fields of SceneConfig."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import jax

from drone_cbf.config import GoalMode, SceneConfig, SceneName
from drone_cbf.scenes import (
    boxes,
    corridors,
    fixed_ring,
    forest,
    formation,
    gcbf,
    gcbf_crazyflie,
    gcbf_double_integrator,
    mixed,
    moving,
    random_cloud,
    ring_swap,
    scattered,
    tunnel,
    windows,
)
from drone_cbf.scenes.scene import Scene, cleared
from drone_cbf.scenes.slots import Slots, padded


@dataclass(frozen=True)
class Family:
    """A distribution of scenes."""

    description: str
    slots: Callable[[SceneConfig], Slots]
    sample: Callable[[jax.Array, GoalMode, SceneConfig], Scene]
    """Obstacles at rest too near to start or goal are removed later, by :func:`make_scene_sampler`; a swarm's keep
    clear by themselves."""
    moving: bool = False
    """Whether some obstacles move."""


FAMILIES: dict[SceneName, Family] = {
    "fixed_ring": Family("a ring of spheres around the goal", fixed_ring.slots, fixed_ring.sample),
    "random_cloud": Family("spheres anywhere in a box", random_cloud.slots, random_cloud.sample),
    "forest": Family("trees on a jittered grid, crossed in wind", forest.slots, forest.sample),
    "boxes": Family("turned and tilted boxes on a jittered grid", boxes.slots, boxes.sample),
    "windows": Family("walls across the flight with an opening each", windows.slots, windows.sample),
    "corridors": Family("a corridor that bends half way", corridors.slots, corridors.sample),
    "moving": Family("balls and boxes that move across the flight", moving.slots, moving.sample, moving=True),
    "mixed": Family(
        "all shapes, 3.5 times as dense as DiffPhysDrone, some moving", mixed.slots, mixed.sample, moving=True
    ),
    "scattered": Family("all shapes at the density of DiffPhysDrone, at rest", scattered.slots, scattered.sample),
}

SWARMS: dict[SceneName, Family] = {
    "gcbf_linear": Family("a swarm among spheres in a cube, as GCBF+ draws it", gcbf.slots, gcbf.sample),
    "gcbf_double_integrator": Family(
        "a swarm at one height among rectangles in a square, as GCBF+ draws it",
        gcbf_double_integrator.slots,
        gcbf_double_integrator.sample,
    ),
    "gcbf_crazyflie": Family("a swarm in the cube of GCBF+'s CrazyFlie", gcbf_crazyflie.slots, gcbf_crazyflie.sample),
    "ring_swap": Family(
        "drones on a circle or sphere change places with those opposite", ring_swap.slots, ring_swap.sample
    ),
    "tunnel": Family("two groups of drones meet in a tunnel a few of them wide", tunnel.slots, tunnel.sample),
    "formation": Family("a lattice of drones moves through spheres", formation.slots, formation.sample),
}
"""Families of scenes in which ``scene.drones`` fly at once: start, start velocity and goal have an axis of them."""


def family_of(name: SceneName) -> Family:
    """The family of that name, of one drone or of several."""
    return SWARMS[name] if name in SWARMS else FAMILIES[name]


def drones_in(name: SceneName, config: SceneConfig) -> int:
    """How many drones fly at once in a scene of that family."""
    return config.drones if name in SWARMS else 1


def common_slots(names: Sequence[SceneName], config: SceneConfig) -> Slots:
    """The smallest slots that hold the scenes of each of these families."""
    return reduce(Slots.widened, (family_of(name).slots(config) for name in names))


def make_scene_sampler(
    name: SceneName, goals: GoalMode, config: SceneConfig, slots: Slots | None = None
) -> Callable[[jax.Array], Scene]:
    """Function from a key to a random scene of family ``name``, padded to ``slots``; None for the family's own.

    ``goals``: ``trained`` is the family's fixed goal, ``shifted`` that goal displaced, ``random`` a random clear place.
    A swarm's goals come with its starts, whatever ``goals`` says.

    Raises:
        ValueError: ``slots`` are fewer than the family needs.
    """
    family = family_of(name)
    slots = family.slots(config) if slots is None else slots
    slots.less(family.slots(config))

    def sample(key: jax.Array) -> Scene:
        scene = family.sample(key, goals, config)
        scene = scene if name in SWARMS else cleared(scene, config.clearance)
        return scene.replace(obstacles=padded(scene.obstacles, slots))

    return sample
