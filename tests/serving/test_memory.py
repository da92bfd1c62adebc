from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.errors import ObservationError
from drone_cbf.serving.memory import Leaves, MemoryFormat

TREE = {
    "motion": (jnp.array([1.5, -2.25e-7, 3e30], jnp.float32), jnp.float32(0.1)),
    "age": jnp.array([[-3], [2**31 - 1]], jnp.int32),
    "key": jnp.array([0, 2**32 - 1], jnp.uint32),
    "started": jnp.array(True),
    "nothing": jnp.zeros((0, 3), jnp.float32),
}
FORMAT = MemoryFormat(TREE, "version 1")
ANCHOR = np.array([[4e5 + 1 / 3, 5e6, 300.0]])


def rows(tree: dict = TREE, memory_format: MemoryFormat = FORMAT) -> np.ndarray:
    entries = jax.tree.map(lambda leaf: np.asarray(leaf)[None], memory_format.flatten(tree))
    return memory_format.write(ANCHOR, entries)


@pytest.mark.parametrize(
    "way", [lambda row: row, lambda row: row.tolist(), lambda row: json.loads(json.dumps(row.tolist()))]
)
def test_what_is_written_is_read_to_the_last_bit_as_array_list_or_text(way) -> None:
    (row,) = rows()
    assert row.shape == (FORMAT.length,) and row.dtype == np.float64
    anchor, entries = FORMAT.read(way(row), 0)
    np.testing.assert_array_equal(anchor, ANCHOR[0])
    again = jax.jit(FORMAT.rebuild)(entries)
    assert jax.tree.structure(again) == jax.tree.structure(TREE)
    for left, right in zip(jax.tree.leaves(again), jax.tree.leaves(TREE), strict=True):
        np.testing.assert_array_equal(left, right)
        assert left.dtype == right.dtype and left.shape == right.shape


def test_a_controller_without_memory_still_has_a_tag_an_anchor_and_a_checksum() -> None:
    empty = MemoryFormat(())
    assert empty.length == 5
    anchor, entries = empty.read(rows((), empty)[0], 0)
    np.testing.assert_array_equal(anchor, ANCHOR[0])
    assert empty.rebuild(entries) == () and entries == Leaves(*(pytest.approx([]),) * 2)


def changed(place: int, value: float) -> np.ndarray:
    (row,) = rows()
    row[place] = value
    return row


FIRST_WORD = FORMAT.length - 5
BAD = [
    (rows()[0][:-1], rf"has {FORMAT.length - 1} numbers, expected {FORMAT.length}: it was cut, or belongs to another"),
    (rows(), "numbers, expected"),
    (rows(memory_format=MemoryFormat(TREE, "version 2"))[0], "has the tag .* belongs to another model or version"),
    (rows(memory_format=MemoryFormat(TREE | {"age": jnp.zeros((1, 2), jnp.int32)}))[0], "has the tag"),
    (rows()[0].astype(np.float32), "has the tag .* was rounded .float64 is needed"),
    (changed(2, np.nan), "holds nan at place 2, which no answer held"),
    (changed(1, 1e20), "holds 1e.20 at place 1"),
    (changed(5, np.nan), "holds nan at place 5"),
    (changed(6, 1e39), "holds 1e.39 at place 6"),
    (changed(FIRST_WORD, 0.5), f"holds 0.5 at place {FIRST_WORD}"),
    (changed(FIRST_WORD, -1.0), "holds -1.0 at place"),
    (changed(FIRST_WORD, np.nan), "holds nan at place"),
    (changed(1, 4e5), "was changed: its numbers are not those of its checksum"),
    (changed(4, np.nan), "was changed"),
    (changed(7, 3e38), "was changed"),
    (changed(FIRST_WORD, 7.0), "was changed"),
    ("text", "does not hold numbers alone"),
    ([None] * FORMAT.length, "has the tag nan"),
]


@pytest.mark.parametrize(("row", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_a_memory_that_no_answer_of_this_model_held_is_refused_with_the_remedy(row, message: str) -> None:
    with pytest.raises(
        ObservationError, match=f"memory of observation 3 .*{message}.*leave it out to begin a new flight"
    ):
        FORMAT.read(row, 3)
