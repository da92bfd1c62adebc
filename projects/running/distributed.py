"""One training in several processes (``jax.distributed``): what process 0 has read, the others are given.

Every process runs the same programs, with the flights divided over the devices of all. Process 0 alone reads and writes
the store and files. In a single process nothing here does anything.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from drone_cbf.recorder import CompositeRecorder

ADDRESS, COUNT, INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
"""Environment variables: where process 0 listens (the mark that there are several), how many, and which one this is."""
Tree = TypeVar("Tree")


def is_asked_for() -> bool:
    """Whether this process is to be one of several."""
    return bool(os.environ.get(ADDRESS))


def is_follower() -> bool:
    """Whether this is another process than the first."""
    import jax

    return is_asked_for() and jax.process_index() > 0


def tree_from_first(read: Callable[[], Tree], like: Any) -> Tree:
    """What ``read`` returns in process 0, which alone calls it: a pytree with the structure and shapes of ``like``."""
    from flax.traverse_util import unflatten_dict

    from drone_cbf.tracking.checkpoints.packages import to_leaves
    from drone_cbf.tracking.checkpoints.store import match

    if not is_asked_for():
        return read()
    if is_follower():
        with np.load(io.BytesIO(_broadcast(b"")), allow_pickle=False) as file:
            found = {tuple(name.split("/")): file[name] for name in file.files}
        return match(like, unflatten_dict(found), "what process 0 has read")
    tree, packed = read(), io.BytesIO()
    leaves: dict[str, Any] = {"/".join(path): leaf for path, leaf in to_leaves(tree).items()}
    np.savez(packed, **leaves)
    _broadcast(packed.getvalue())
    return tree


def text_from_first(read: Callable[[], str]) -> str:
    """What ``read`` returns in process 0, which alone calls it."""
    if not is_asked_for():
        return read()
    if is_follower():
        return _broadcast(b"").decode()
    text = read()
    _broadcast(text.encode())
    return text


def _broadcast(content: bytes) -> bytes:
    """The ``content`` of process 0 in every process."""
    from jax.experimental.multihost_utils import broadcast_one_to_all

    size = int(broadcast_one_to_all(np.int32(len(content))))
    given = np.frombuffer(content, np.uint8) if content else np.zeros(size, np.uint8)
    return np.asarray(broadcast_one_to_all(given)).astype(np.uint8).tobytes()


class CommonRecorder(CompositeRecorder):
    """All processes go on from the state that process 0 has restored."""

    def restore(self, tree: Tree) -> Tree:
        return tree_from_first(lambda: super(CommonRecorder, self).restore(tree), tree)
