"""How many obstacles of each shape a scene has room for. Scenes of equal slots are flown by one compiled program."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from drone_cbf.physics.obstacles import Obstacles, no_boxes, no_capsules, no_cylinders, no_ground

_SHAPES = ("capsules", "boxes", "cylinders", "ground")


@dataclass(frozen=True)
class Slots:
    """Slots of each shape; unused ones are masked."""

    capsules: int = 0
    boxes: int = 0
    cylinders: int = 0
    ground: int = 0  # 0 or 1

    def widened(self, other: "Slots") -> "Slots":
        """The smallest slots that hold both."""
        return Slots(*(max(getattr(self, name), getattr(other, name)) for name in _SHAPES))

    def less(self, used: "Slots") -> "Slots":
        """The slots that ``used`` leaves free.

        Raises:
            ValueError: there are fewer than ``used``.
        """
        free = {name: getattr(self, name) - getattr(used, name) for name in _SHAPES}
        for name, count in free.items():
            if count < 0:
                raise ValueError(
                    f"slots: {name} = {getattr(self, name)} holds fewer than the {getattr(used, name)} of the family; "
                    "use common_slots of all families that are flown together"
                )
        return Slots(**free)


def slots_of(obstacles: Obstacles) -> Slots:
    """Slots of the obstacles of one scene, or of each of a batch."""
    return Slots(*(getattr(obstacles, name).active.shape[-1] for name in _SHAPES))


def unused(slots: Slots) -> Obstacles:
    """``slots`` without obstacles."""
    return Obstacles(
        capsules=no_capsules(slots.capsules),
        boxes=no_boxes(slots.boxes),
        cylinders=no_cylinders(slots.cylinders),
        ground=no_ground(slots.ground),
    )


def padded(obstacles: Obstacles, slots: Slots) -> Obstacles:
    """The obstacles of one scene followed, shape by shape, by unused ones up to ``slots``.

    Raises:
        ValueError: ``slots`` are fewer than the obstacles have.
    """
    free = slots.less(slots_of(obstacles))
    if free == Slots():
        return obstacles
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), obstacles, unused(free))


def first_slots(obstacles: Obstacles, slots: Slots) -> Obstacles:
    """Inverse of :func:`padded` on a batch: the first ``slots`` of each shape."""

    def first(name: str) -> Any:
        return jax.tree.map(lambda leaf: leaf[:, : getattr(slots, name)], getattr(obstacles, name))

    return Obstacles(**{name: first(name) for name in _SHAPES})
