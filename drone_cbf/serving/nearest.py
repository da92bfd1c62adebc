"""Other drones that a request tells of, in the slots for which the controller is compiled, on the host."""

from dataclasses import dataclass

import numpy as np

from drone_cbf.serving.observations import Request


@dataclass(frozen=True)
class Near:
    """Other drones of b observations in k slots, the nearest first; unused slots hold zeros."""

    position: np.ndarray  # (b, k, 3) float32, relative to an origin [m]
    velocity: np.ndarray  # (b, k, 3) float32 [m/s]
    there: np.ndarray  # (b, k) bool

    def by_name(self) -> dict[str, np.ndarray]:
        """By the names of a request's fields."""
        return {"others": self.position, "other_velocities": self.velocity, "other_mask": self.there}


def nearest_others(request: Request, origin: np.ndarray, slots: int, radius: float) -> Near | None:
    """The others nearest to the drone within ``radius`` [m], at most ``slots``, relative to ``origin`` (b, 3) [m].

    None for a policy that flies alone.
    """
    if request.others is None or request.other_velocities is None or request.other_mask is None:
        return None
    batch, told = request.other_mask.shape
    apart = np.linalg.norm(request.others - request.position[:, None], axis=-1)
    apart = np.where(request.other_mask & (apart < radius), apart, np.inf)
    order = np.argsort(apart, axis=1, kind="stable")[:, :slots]
    there = np.take_along_axis(np.isfinite(apart), order, 1)

    def placed(values: np.ndarray) -> np.ndarray:
        """In the first slots."""
        room = np.zeros((batch, slots, 3), np.float32)
        room[:, : order.shape[1]] = np.where(there[..., None], np.take_along_axis(values, order[..., None], 1), 0.0)
        return room

    return Near(
        position=placed(request.others - origin[:, None]),
        velocity=placed(request.other_velocities),
        there=np.pad(there, [(0, 0), (0, max(0, slots - told))]),
    )
