"""A trained controller as a function of batches of raw observations."""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from drone_cbf.arrays import tree_all_finite
from drone_cbf.config import SystemConfig
from drone_cbf.controller import ControllerParams
from drone_cbf.physics.dynamics import make_dynamics
from drone_cbf.serving.clouds import COLUMNS, fitted_cloud, urgency_in
from drone_cbf.serving.controller import STATUS_NAMES, Answer, ServedController, make_served_controller
from drone_cbf.serving.fields import example_observations, image_size, other_slots
from drone_cbf.serving.memory import Leaves, MemoryFormat
from drone_cbf.serving.nearest import nearest_others
from drone_cbf.serving.observations import Request, check_observations
from drone_cbf.serving.packing import Answered, Asked, own_length, packed, read, unpacked, written

CLOUD_SIZES = (512, 2048)
"""Numbers of points for which the controller is compiled; larger clouds are thinned to the last."""
LARGEST_CALL = 1 << 18  # Points or pixels of a batch per call of the compiled function; larger batches are split
ANCHOR_REACH = 50.0
"""Distance of the drone from the origin of the float32 numbers at which the origin is moved to it [m].

At 50 m float32 resolves 4e-6 m.
"""


class PolicyService:
    """Answers batches of raw observations. Batches are padded to powers of two, so only new sizes are compiled.

    Positions may be far from the origin of the world frame, as UTM coordinates are: what reaches the controller is
    relative to an anchor, the position at the first call of the flight, which is part of the memory that callers keep.
    """

    def __init__(
        self, system: SystemConfig, params: ControllerParams, controller: ServedController | None = None
    ) -> None:
        self._controller = controller or make_served_controller(system)
        self._queue_length, self._urgency = make_dynamics(system.physics).queue, urgency_in(system)
        self._image, self._others, self._sight = image_size(system.sensor), other_slots(system), system.sensor.range
        self._params, self._structure = leaves_of(params)
        first = self._controller.start()
        self._format = MemoryFormat(first, identity=_digest(system, params))
        self._first = jax.tree.map(np.asarray, self._format.flatten(first))
        self._compiled = jax.jit(self._step)

    def __call__(self, fields: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Answer the observations in ``fields`` (see :func:`check_observations`).

        Returns:
            ``command`` (b, 3) and ``nominal_command`` (b, 3) [m/s^2], ``h`` (b,) [m], all float32, ``status`` (b,), one
            of :data:`STATUS_NAMES`, and ``memory`` (b, m) float64, which belongs into the next observation of each
            flight. Of a policy that sees by a camera also ``look`` (b, 3), the direction to turn it to.

        Raises:
            ObservationError: see :func:`check_observations` and :meth:`MemoryFormat.read`.
        """
        request = check_observations(fields, self._queue_length, self._image, swarm=self._others > 0)
        anchor, memory = self._memories(request)
        origin = np.where(
            np.linalg.norm(request.position - anchor, axis=1, keepdims=True) > ANCHOR_REACH, request.position, anchor
        )
        seen = request.image
        if seen is None:
            seen = fitted_cloud(request, origin, CLOUD_SIZES, self._urgency).values
        others = nearest_others(request, origin, self._others, self._sight)
        answer, following = self._answer(packed(request, seen, anchor, origin, memory, self._queue_length, others))
        return {
            "command": answer.command,
            "nominal_command": answer.nominal_command,
            "h": answer.h,
            "status": _STATUSES[answer.status],
            "memory": self._format.write(origin, following),
            **({} if answer.look is None else {"look": answer.look}),
        }

    @property
    def first(self) -> Leaves:
        """The memory before the first step of a flight, on the host."""
        return self._first

    def asked_shapes(self, points: int) -> Asked:
        """Shapes and dtypes of one request with that many slots for points; a camera's has its image."""
        seen = (points, COLUMNS) if self._image is None else self._image
        floats, words = self._first
        return Asked(
            own=jax.ShapeDtypeStruct((own_length(self._queue_length, self._others),), jnp.float32),
            seen=jax.ShapeDtypeStruct(seen, jnp.float32),
            floats=jax.ShapeDtypeStruct(floats.shape, jnp.float32),
            words=jax.ShapeDtypeStruct(words.shape, jnp.uint32),
        )

    def decide(self, asked: Asked) -> Answered:
        """One request, without a batch axis; traceable, with the parameters as constants."""
        return self._one_step(jax.tree.unflatten(self._structure, self._params), asked)

    def decide_batch(self, batch: Asked) -> Answered:
        """A batch of requests by the compiled function, which is compiled for each size of batch and of points."""
        return self._compiled(self._params, batch)

    def warm_up(self) -> None:
        """Compile for single observations, of any number of points or of an image: no answer to one is delayed."""
        example = example_observations(self._image, swarm=self._others > 0)
        if self._image is not None:
            self(example)
            return
        for size in CLOUD_SIZES:
            self({**example, "points": np.ones((1, size, 3)), "mask": np.ones((1, size), bool)})

    def _memories(self, request: Request) -> tuple[np.ndarray, Leaves]:
        """Anchors (b, 3) [m] and memories; those of new flights begin at the position."""
        rows = request.memory or [None] * len(request.position)
        anchor = request.position.copy()
        memories = [self._first] * len(rows)
        for place, row in enumerate(rows):
            if row is not None:
                anchor[place], memories[place] = self._format.read(row, place)
        return anchor, Leaves(*(np.stack(entries) for entries in zip(*memories, strict=True)))

    def _step(self, params: tuple[Any, ...], batch: Asked) -> Answered:
        """The batch of answers; traceable. ``params`` are the leaves of the parameters: a tree
        takes longer."""
        tree = jax.tree.unflatten(self._structure, params)
        if batch.own.shape[0] > 1:
            return jax.vmap(lambda asked: self._one_step(tree, asked))(batch)
        # Without a batch axis it takes a fifth less time.
        alone = self._one_step(tree, jax.tree.map(lambda values: values[0], batch))
        return jax.tree.map(lambda values: values[None], alone)

    def _one_step(self, params: ControllerParams, asked: Asked) -> Answered:
        observation, offset, entries = unpacked(asked, camera=self._image is not None, others=self._others)
        memory = self._controller.shift(self._format.rebuild(entries), offset)
        following, answer = self._controller.step(params, memory, observation)
        flat = self._format.flatten(following)
        # What is not finite could not be sent back: the flight is then taken for a new one.
        whole = tree_all_finite(flat.floats)
        return written(answer, jax.tree.map(lambda new, first: jnp.where(whole, new, first), flat, self._first))

    def _answer(self, batch: Asked) -> tuple[Answer, Leaves]:
        """The compiled function over a batch of any size."""
        count, each = batch.seen.shape[:2]
        if self._image is not None:
            each = max(math.prod(self._image), CLOUD_SIZES[0])
        largest = 1 << max((LARGEST_CALL // each).bit_length() - 1, 0)
        parts = []
        for first in range(0, count, largest):
            given = jax.tree.map(lambda values: values[first : first + largest], batch)
            size = min(largest, count - first)
            answered = read(self.decide_batch(_padded(given, size)), camera=self._image is not None)
            parts.append(jax.tree.map(lambda values: values[:size], answered))
        return parts[0] if len(parts) == 1 else jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


_STATUSES = np.array(STATUS_NAMES)


def leaves_of(params: ControllerParams) -> tuple[tuple[jax.Array, ...], Any]:
    """The arrays of the parameters, and the structure that they have."""
    leaves, structure = jax.tree.flatten(params)
    return tuple(map(jnp.asarray, leaves)), structure


def _digest(system: SystemConfig, params: ControllerParams) -> str:
    """Tells one controller from another."""
    digest = hashlib.sha256(system.model_dump_json().encode())
    for leaf in jax.tree.leaves(params):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def _padded(batch: Any, count: int) -> Any:
    """The batch of ``count`` padded to a power of two by repeating the last observation."""
    more = (1 << (count - 1).bit_length()) - count
    if not more:
        return batch
    return jax.tree.map(lambda values: np.concatenate([values, np.repeat(values[-1:], more, axis=0)]), batch)
