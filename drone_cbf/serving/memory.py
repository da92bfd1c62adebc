"""The memory of a flight as one flat array of float64, which the caller keeps between two requests.

A row is ``[tag, anchor x, y, z, checksum, floats ..., words ...]``: the tag says to which model it belongs, the anchor
[m, world frame] is the origin of every position in the rest, which holds the leaves of the controller's memory by type.
"""

import hashlib
import zlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr, tree_flatten_with_path

from drone_cbf.errors import ObservationError
from drone_cbf.serving.fields import LARGEST, MEANING

FORMAT = 2
_ANCHOR = slice(1, 4)
_CHECK = 4
_HEAD = 5  # tag, anchor and checksum
_TAG_BYTES = 6  # 48 bits: float64 holds whole numbers up to 53 bits exactly
_WORDS = 2.0**32
_REMEDY = "send the memory of the last answer unchanged, or leave it out to begin a new flight"


class Leaves(NamedTuple):
    """Entries of a memory by type; ``words`` are whole numbers and truth values as 32 bits each."""

    floats: Any  # (..., f) float32
    words: Any  # (..., w) uint32


class MemoryFormat:
    """How the memory of one model is written: ``example`` is such a memory, of one flight.

    ``identity`` is any text that tells the model from others with a memory of the same structure.
    """

    def __init__(self, example: Any, identity: str = "") -> None:
        entries, self._structure = tree_flatten_with_path(example)
        self._leaves = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for _, leaf in entries]
        self._is_float = [leaf.dtype == jnp.float32 for leaf in self._leaves]
        for leaf, is_float in zip(self._leaves, self._is_float, strict=True):
            assert is_float or leaf.dtype in (jnp.int32, jnp.uint32, jnp.bool_), f"no room for {leaf.dtype}"
        about = [f"{keystr(path)} {leaf.shape} {leaf.dtype}" for path, leaf in entries]
        digest = hashlib.sha256("\n".join([str(FORMAT), identity, *about]).encode()).digest()
        self._tag = float(int.from_bytes(digest[:_TAG_BYTES]))
        sizes = [int(np.prod(leaf.shape)) for leaf in self._leaves]
        self._floats = sum(size for size, is_float in zip(sizes, self._is_float, strict=True) if is_float)
        self.length = _HEAD + sum(sizes)
        """Numbers in a row."""

    def flatten(self, memory: Any) -> Leaves:
        """The entries of one memory; traceable."""
        leaves = jax.tree.leaves(memory)
        floats = [jnp.ravel(leaf) for leaf, is_float in zip(leaves, self._is_float, strict=True) if is_float]
        words = [_to_words(leaf) for leaf, is_float in zip(leaves, self._is_float, strict=True) if not is_float]
        return Leaves(
            floats=jnp.concatenate([jnp.zeros(0, jnp.float32), *floats]),
            words=jnp.concatenate([jnp.zeros(0, jnp.uint32), *words]),
        )

    def rebuild(self, entries: Leaves) -> Any:
        """Inverse of :meth:`flatten`; traceable."""
        leaves, first = [], {True: 0, False: 0}
        for leaf, is_float in zip(self._leaves, self._is_float, strict=True):
            size = int(np.prod(leaf.shape))
            values = (entries.floats if is_float else entries.words)[first[is_float] : first[is_float] + size]
            first[is_float] += size
            leaves.append((values if is_float else _from_words(values, leaf.dtype)).reshape(leaf.shape))
        return jax.tree.unflatten(self._structure, leaves)

    def write(self, anchor: np.ndarray, entries: Leaves) -> np.ndarray:
        """Rows (b, ``length``) from anchors (b, 3) [m] and entries with a batch axis."""
        rows = np.empty((anchor.shape[0], self.length))
        rows[:, 0], rows[:, _ANCHOR] = self._tag, anchor
        rows[:, _HEAD : _HEAD + self._floats] = entries.floats
        rows[:, _HEAD + self._floats :] = entries.words
        for row, floats, words in zip(rows, entries.floats, entries.words, strict=True):
            row[_CHECK] = _checksum(row[_ANCHOR], floats, words)
        return rows

    def read(self, row: Any, place: int) -> tuple[np.ndarray, Leaves]:
        """Anchor (3,) [m] and entries of one row, that of observation ``place``; inverse of :meth:`write`.

        Raises:
            ObservationError: the row is of another model, cut, or was changed.
        """
        try:
            values = np.asarray(row, dtype=np.float64)
        except (TypeError, ValueError):
            raise _refusal(place, "does not hold numbers alone") from None
        if values.ndim != 1 or values.size != self.length:
            count = f"has {values.size} numbers, expected {self.length}"
            raise _refusal(place, f"{count}: it was cut, or belongs to another model or version")
        if values[0] != self._tag:
            tags = f"has the tag {values[0]:.17g}, expected {self._tag:.17g}"
            raise _refusal(place, f"{tags}: it belongs to another model or version, or was rounded (float64 is needed)")
        anchor, words = values[_ANCHOR], values[_HEAD + self._floats :]
        with np.errstate(over="ignore", invalid="ignore"):
            floats = values[_HEAD : _HEAD + self._floats].astype(np.float32)
        whole = (words >= 0.0) & (words < _WORDS) & (words == np.floor(words))
        right = np.concatenate([np.abs(anchor) <= LARGEST["position"], [True], np.isfinite(floats), whole])
        if not right.all():
            index = 1 + int(np.argmin(right))
            raise _refusal(place, f"holds {values[index]} at place {index}, which no answer held")
        leaves = Leaves(floats=floats, words=words.astype(np.uint32))
        if values[_CHECK] != _checksum(anchor, *leaves):
            raise _refusal(place, "was changed: its numbers are not those of its checksum")
        return anchor, leaves


def _checksum(anchor: np.ndarray, floats: np.ndarray, words: np.ndarray) -> float:
    """Of one row: it tells whether numbers that an answer could have held are those that it did."""
    check = 0
    for part in (anchor, floats, words):
        check = zlib.crc32(np.ascontiguousarray(part).data, check)
    return float(check)


def _to_words(leaf: jax.Array) -> jax.Array:
    values = jnp.ravel(leaf)
    return values.astype(jnp.uint32) if leaf.dtype == jnp.bool_ else jax.lax.bitcast_convert_type(values, jnp.uint32)


def _from_words(words: jax.Array, dtype: Any) -> jax.Array:
    return words.astype(jnp.bool_) if dtype == jnp.bool_ else jax.lax.bitcast_convert_type(words, dtype)


def _refusal(place: int, reason: str) -> ObservationError:
    return ObservationError(f"memory of observation {place} {reason}; {_REMEDY} ({MEANING['memory']})")
