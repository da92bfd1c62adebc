"""What goes into the compiled function and comes out of it, in few arrays: each one handed over costs microseconds."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from drone_cbf.arrays import Vector
from drone_cbf.perception.readings import Others
from drone_cbf.serving.clouds import COLUMNS, POINT, SEEN, SPREAD, VELOCITY
from drone_cbf.serving.controller import Answer, Observation
from drone_cbf.serving.memory import Leaves
from drone_cbf.serving.nearest import Near
from drone_cbf.serving.observations import Request

OWN: Mapping[str, slice] = {
    "offset": slice(0, 3),  # of the origin, in the memory [m]
    "position": slice(3, 6),  # relative to the origin, as the goal [m]
    "velocity": slice(6, 9),  # [m/s]
    "goal": slice(9, 12),
    "noise": slice(12, 13),  # [m, m/s]
    "thrust_known": slice(13, 14),  # 1 or 0, as the next
    "queue_known": slice(14, 15),
    "thrust": slice(15, 18),  # [m/s^2]
    "yaw": slice(18, 19),  # [rad]; 0 without a camera
    "queue": slice(19, None),  # three for each command, newest first [m/s^2]; then the other drones
}
"""Places of what is told of the drone in :attr:`Asked.own`."""
OTHER_COLUMNS = 7  # Numbers for each slot for another drone
DECISION: Mapping[str, slice] = {
    "command": slice(0, 3),  # [m/s^2]
    "nominal_command": slice(3, 6),  # [m/s^2]
    "h": slice(6, 7),  # [m]
    "status": slice(7, 8),  # index of its name
}
"""Places of the decision in :attr:`Answered.floats`."""
LOOK = slice(8, 11)
"""Place of the direction to turn to, where there is a camera."""


def remembered(*, camera: bool) -> int:
    """Where the floats of the memory begin in :attr:`Answered.floats`."""
    return int(LOOK.stop if camera else LOOK.start)


def own_length(queue_length: int, others: int = 0) -> int:
    """Numbers in :attr:`Asked.own` with that many slots for other drones."""
    return int(OWN["queue"].start) + 3 * queue_length + OTHER_COLUMNS * others


def other_places(length: int, others: int) -> dict[str, slice]:
    """Places of the other drones in :attr:`Asked.own` of that ``length``: first all their positions, relative to the
    origin [m], then all velocities [m/s], then 1 for each that is there."""
    first = length - OTHER_COLUMNS * others
    ends = [first, first + 3 * others, first + 6 * others, length]
    names = ("others", "other_velocities", "other_mask")
    return {name: slice(*ends[at : at + 2]) for at, name in enumerate(names)} if others else {}


class Asked(NamedTuple):
    """One request, or with a leading axis a batch of them."""

    own: Any  # (k,) float32: what is told of the drone, by `OWN`
    seen: Any  # (n, 8) float32: columns as in `Cloud`; of a camera its image (r, c) [m]
    floats: Any  # (f,) float32: of the memory
    words: Any  # (w,) uint32: of the memory


class Answered(NamedTuple):
    """One answer, or with a leading axis a batch of them."""

    floats: Any  # (k,) float32: of the decision, then those of the memory
    words: Any  # (w,) uint32: of the memory


def packed(
    request: Request,
    seen: np.ndarray,
    anchor: np.ndarray,
    origin: np.ndarray,
    memory: Leaves,
    queue_length: int,
    others: Near | None = None,
) -> Asked:
    """The batch with positions relative to ``origin`` (b, 3) [m]; those in its memory are relative to ``anchor``.

    ``seen`` is :attr:`drone_cbf.serving.clouds.Cloud.values`, or the images.
    """
    slots = 0 if others is None else others.there.shape[1]
    own = np.zeros((len(origin), own_length(queue_length, slots)), np.float32)
    own[:, OWN["offset"]] = anchor - origin
    own[:, OWN["position"]] = request.position - origin
    own[:, OWN["velocity"]] = request.velocity
    own[:, OWN["goal"]] = request.goal - origin
    own[:, OWN["noise"]] = request.noise[:, None]
    if request.thrust is not None:
        own[:, OWN["thrust_known"]], own[:, OWN["thrust"]] = 1.0, request.thrust
    if request.queue is not None:
        place = slice(OWN["queue"].start, own_length(queue_length))
        own[:, OWN["queue_known"]], own[:, place] = 1.0, request.queue.reshape(len(origin), -1)
    if request.yaw is not None:
        own[:, OWN["yaw"]] = request.yaw[:, None]
    told = {} if others is None else others.by_name()
    for name, place in other_places(own.shape[1], slots).items():
        own[:, place] = told[name].reshape(len(origin), -1)
    return Asked(own=own, seen=seen, floats=memory.floats, words=memory.words)


def unpacked(asked: Asked, *, camera: bool, others: int = 0) -> tuple[Observation, Vector, Leaves]:
    """One request as the controller takes it, the offset of the origin in its memory [m], and the memory; traceable.

    ``camera``: what is seen is an image; ``others``: slots for other drones.
    """
    end = asked.own.shape[0] - OTHER_COLUMNS * others
    own, cloud = asked.own, jnp.zeros((0, COLUMNS), jnp.float32) if camera else asked.seen
    observation = Observation(
        position=own[OWN["position"]],
        velocity=own[OWN["velocity"]],
        goal=own[OWN["goal"]],
        points=cloud[:, POINT],
        mask=cloud[:, SEEN] > 0.0,
        point_velocities=cloud[:, VELOCITY],
        point_spread=cloud[:, SPREAD],
        noise=own[OWN["noise"].start],
        thrust=own[OWN["thrust"]],
        queue=own[OWN["queue"].start : end].reshape(-1, 3),
        thrust_known=own[OWN["thrust_known"].start] > 0.0,
        queue_known=own[OWN["queue_known"].start] > 0.0,
        image=asked.seen if camera else None,
        yaw=own[OWN["yaw"].start] if camera else None,
        others=_others(own, others) if others else None,
    )
    return observation, own[OWN["offset"]], Leaves(floats=asked.floats, words=asked.words)


def _others(own: Any, slots: int) -> Others:
    position, velocity, there = (own[place] for place in other_places(own.shape[0], slots).values())
    return Others(position=position.reshape(-1, 3), velocity=velocity.reshape(-1, 3), seen=there > 0.0)


def written(answer: Answer, memory: Leaves) -> Answered:
    """One answer, and the memory that goes with it; traceable."""
    alone = jnp.stack([answer.h, answer.status.astype(jnp.float32)])
    look = () if answer.look is None else (answer.look,)
    floats = jnp.concatenate([answer.command, answer.nominal_command, alone, *look, memory.floats])
    return Answered(floats=floats, words=memory.words)


def read(answered: Answered, *, camera: bool) -> tuple[Answer, Leaves]:
    """The answers and memories of a batch, as arrays of numpy; inverse of :func:`written`.

    ``camera``: they say where to look.
    """
    floats, words = np.asarray(answered.floats), np.asarray(answered.words)
    first = remembered(camera=camera)
    decision: dict[str, Any] = {
        "command": floats[:, DECISION["command"]],
        "nominal_command": floats[:, DECISION["nominal_command"]],
        "h": floats[:, DECISION["h"].start],
        "status": floats[:, DECISION["status"].start].astype(np.int32),
        "look": floats[:, LOOK] if camera else None,
    }
    return Answer(**decision), Leaves(floats=floats[:, first:], words=words)
