"""How many obstacles of each shape a scene has room for. Scenes of equal slots are flown by one compiled program."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from drone_cbf.physics.obstacles import Obstacles, no_boxes, no_capsules, no_cylinders, no_ground


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


_SHAPES = ("capsules", "boxes", "cylinders", "ground")


def slots_of(obstacles: Obstacles) -> Slots:
    """Slots of the obstacles of one scene."""
    return Slots(*(getattr(obstacles, name).active.shape[0] for name in _SHAPES))


def padded(obstacles: Obstacles, slots: Slots) -> Obstacles:
    """The obstacles of one scene followed, shape by shape, by unused ones up to ``slots``.

    Raises:
        ValueError: ``slots`` are fewer than the obstacles have.
    """
    free = slots.less(slots_of(obstacles))
    if free == Slots():
        return obstacles
    unused = Obstacles(
        capsules=no_capsules(free.capsules),
        boxes=no_boxes(free.boxes),
        cylinders=no_cylinders(free.cylinders),
        ground=no_ground(free.ground),
    )
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), obstacles, unused)
