"""What goes into the compiled function and comes out of it, in few arrays: each one handed over costs microseconds."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from drone_cbf.arrays import Vector
from drone_cbf.serving.clouds import POINT, SEEN, SPREAD, VELOCITY, Cloud
from drone_cbf.serving.controller import Answer, Observation
from drone_cbf.serving.memory import Leaves
from drone_cbf.serving.observations import Request

_DECISION = 8  # Numbers of a decision: two commands, h and the status


class Asked(NamedTuple):
    """One request, or with a leading axis a batch of them."""

    own: Any  # (k,) float32: what is told of the drone, in the order of `packed`
    cloud: Any  # (n, 8) float32: columns as in `Cloud`
    floats: Any  # (f,) float32: of the memory
    words: Any  # (w,) uint32: of the memory


class Answered(NamedTuple):
    """One answer, or with a leading axis a batch of them."""

    floats: Any  # (k,) float32: of the decision, then those of the memory
    words: Any  # (w,) uint32: of the memory


def packed(
    request: Request, cloud: Cloud, anchor: np.ndarray, origin: np.ndarray, memory: Leaves, queue_length: int
) -> Asked:
    """The batch with positions relative to ``origin`` (b, 3) [m]; those in its memory are relative to ``anchor``."""
    own = np.zeros((len(origin), 18 + 3 * queue_length), np.float32)
    own[:, 0:3] = anchor - origin
    own[:, 3:6] = request.position - origin
    own[:, 6:9] = request.velocity
    own[:, 9:12] = request.goal - origin
    own[:, 12] = request.noise
    if request.thrust is not None:
        own[:, 13], own[:, 15:18] = 1.0, request.thrust
    if request.queue is not None:
        own[:, 14], own[:, 18:] = 1.0, request.queue.reshape(len(origin), -1)
    return Asked(own=own, cloud=cloud.values, floats=memory.floats, words=memory.words)


def unpacked(asked: Asked) -> tuple[Observation, Vector, Leaves]:
    """One request as the controller takes it, the offset of the origin in its memory [m], and the memory; traceable."""
    own, cloud = asked.own, asked.cloud
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
        queue=own[18:].reshape(-1, 3),
        thrust_known=own[13] > 0.0,
        queue_known=own[14] > 0.0,
    )
    return observation, own[0:3], Leaves(floats=asked.floats, words=asked.words)


def written(answer: Answer, memory: Leaves) -> Answered:
    """One answer, and the memory that goes with it; traceable."""
    alone = jnp.stack([answer.h, answer.status.astype(jnp.float32)])
    floats = jnp.concatenate([answer.command, answer.nominal_command, alone, memory.floats])
    return Answered(floats=floats, words=memory.words)


def read(answered: Answered) -> tuple[Answer, Leaves]:
    """The answers and memories of a batch, as arrays of numpy; inverse of :func:`written`."""
    floats, words = np.asarray(answered.floats), np.asarray(answered.words)
    decision: dict[str, Any] = {
        "command": floats[:, 0:3],
        "nominal_command": floats[:, 3:6],
        "h": floats[:, 6],
        "status": floats[:, 7].astype(np.int32),
    }
    return Answer(**decision), Leaves(floats=floats[:, _DECISION:], words=words)
