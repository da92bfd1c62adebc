"""How JAX prepares programs in tests: with one MLIR context for each thread, in place of one for each program."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

_of_thread = threading.local()


def share_contexts() -> None:
    """Makes JAX lower all programs of a thread in one MLIR context, for the rest of this process.

    A new context loads every dialect: 6 ms of CPU, a third of what a small program takes in all, and the tests compile
    thousands. Nothing of a program depends on the context. JAX has no setting for it; without the private function that
    is replaced here (another version of JAX), everything stays as it is.
    """
    from jax._src.interpreters import mlir

    make: Callable[[], Any] | None = getattr(mlir, "make_ir_context", None)
    if make is None or make.__module__ == __name__:
        return

    def shared() -> Any:
        if not hasattr(_of_thread, "context"):
            _of_thread.context = make()
        return _of_thread.context

    mlir.make_ir_context = shared
