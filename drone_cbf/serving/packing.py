"""What goes into the compiled function and comes out of it, in few arrays: each one handed over costs microseconds."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from drone_cbf.arrays import Vector
from drone_cbf.serving.clouds import COLUMNS, POINT, SEEN, SPREAD, VELOCITY
from drone_cbf.serving.controller import Answer, Observation
from drone_cbf.serving.memory import Leaves
from drone_cbf.serving.observations import Request

_DECISION = 8  # Numbers of a decision: two commands, h and the status
_LOOK = 3  # Numbers that follow it where a camera is turned


class Asked(NamedTuple):
    """One request, or with a leading axis a batch of them."""

    own: Any  # (k,) float32: what is told of the drone, in the order of `packed`
    seen: Any  # (n, 8) float32: columns as in `Cloud`; of a camera its image (r, c) [m]
    floats: Any  # (f,) float32: of the memory
    words: Any  # (w,) uint32: of the memory


class Answered(NamedTuple):
    """One answer, or with a leading axis a batch of them."""

    floats: Any  # (k,) float32: of the decision, then those of the memory
    words: Any  # (w,) uint32: of the memory


def packed(
    request: Request, seen: np.ndarray, anchor: np.ndarray, origin: np.ndarray, memory: Leaves, queue_length: int
) -> Asked:
    """The batch with positions relative to ``origin`` (b, 3) [m]; those in its memory are relative to ``anchor``.

    ``seen`` is :attr:`drone_cbf.serving.clouds.Cloud.values`, or the images.
    """
    own = np.zeros((len(origin), 19 + 3 * queue_length), np.float32)
    own[:, 0:3] = anchor - origin
    own[:, 3:6] = request.position - origin
    own[:, 6:9] = request.velocity
    own[:, 9:12] = request.goal - origin
    own[:, 12] = request.noise
    if request.thrust is not None:
        own[:, 13], own[:, 15:18] = 1.0, request.thrust
    if request.queue is not None:
        own[:, 14], own[:, 19:] = 1.0, request.queue.reshape(len(origin), -1)
    if request.yaw is not None:
        own[:, 18] = request.yaw
    return Asked(own=own, seen=seen, floats=memory.floats, words=memory.words)


def unpacked(asked: Asked, *, camera: bool) -> tuple[Observation, Vector, Leaves]:
    """One request as the controller takes it, the offset of the origin in its memory [m], and the memory; traceable.

    ``camera``: what is seen is an image.
    """
    own, cloud = asked.own, jnp.zeros((0, COLUMNS), jnp.float32) if camera else asked.seen
    observation = Observation(
        position=own[3:6],
        velocity=own[6:9],
        goal=own[9:12],
        points=cloud[:, POINT],
        mask=cloud[:, SEEN] > 0.0,
        point_velocities=cloud[:, VELOCITY],
        point_spread=cloud[:, SPREAD],
        noise=own[12],
        thrust=own[15:18],
        queue=own[19:].reshape(-1, 3),
        thrust_known=own[13] > 0.0,
        queue_known=own[14] > 0.0,
        image=asked.seen if camera else None,
        yaw=own[18] if camera else None,
    )
    return observation, own[0:3], Leaves(floats=asked.floats, words=asked.words)


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
    remembered = _DECISION + (_LOOK if camera else 0)
    decision: dict[str, Any] = {
        "command": floats[:, 0:3],
        "nominal_command": floats[:, 3:6],
        "h": floats[:, 6],
        "status": floats[:, 7].astype(np.int32),
        "look": floats[:, _DECISION:remembered] if camera else None,
    }
    return Answer(**decision), Leaves(floats=floats[:, remembered:], words=words)
