"""The registry of scene families. A new one is a file beside this one, a line here, and its fields of SceneConfig."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import jax

from drone_cbf.config import GoalMode, SceneConfig, SceneName
from drone_cbf.scenes import fixed_ring, forest, random_cloud
from drone_cbf.scenes.scene import Scene, cleared
from drone_cbf.scenes.slots import Slots, padded


@dataclass(frozen=True)
class Family:
    """A distribution of scenes."""

    description: str
    slots: Callable[[SceneConfig], Slots]
    sample: Callable[[jax.Array, GoalMode, SceneConfig], Scene]
    """Obstacles that come too near to start or goal are removed later, by :func:`make_scene_sampler`."""


FAMILIES: Mapping[SceneName, Family] = {
    "fixed_ring": Family("a ring of spheres around the goal", fixed_ring.slots, fixed_ring.sample),
    "random_cloud": Family("spheres anywhere in a box", random_cloud.slots, random_cloud.sample),
    "forest": Family("trees on a jittered grid, crossed in wind", forest.slots, forest.sample),
}


def common_slots(names: Sequence[SceneName], config: SceneConfig) -> Slots:
    """The smallest slots that hold the scenes of each of these families."""
    return reduce(Slots.widened, (FAMILIES[name].slots(config) for name in names))


def make_scene_sampler(
    name: SceneName, goals: GoalMode, config: SceneConfig, slots: Slots | None = None
) -> Callable[[jax.Array], Scene]:
    """Function from a key to a random scene of family ``name``, padded to ``slots``; None for the family's own.

    ``goals``: ``trained`` is the family's fixed goal, ``shifted`` that goal displaced, ``random`` a random clear place.

    Raises:
        ValueError: ``slots`` are fewer than the family needs.
    """
    family = FAMILIES[name]
    slots = family.slots(config) if slots is None else slots
    slots.less(family.slots(config))

    def sample(key: jax.Array) -> Scene:
        scene = cleared(family.sample(key, goals, config), config.clearance)
        return scene.replace(obstacles=padded(scene.obstacles, slots))

    return sample
