"""How training reports its progress: a protocol that MLflow, a progress bar or a list implement."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

Tree = TypeVar("Tree")


class Recorder(Protocol):
    """Receives the progress of a training stage. Implementations must not block on slow storage for long."""

    def begin(self, description: str, total_steps: int, done: int = 0) -> None:
        """A phase of ``total_steps`` updates begins, ``done`` of them made earlier; or its total changes."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Figures of one update, by metric name (DESIGN 6), on the host."""

    def checkpoint(self, step: int, tree: Any, name: str) -> None:
        """A complete state as a dictionary of pytrees; ``name`` is its folder below ``checkpoints/``."""

    def progress(self, step: int, tree: Any) -> None:
        """The complete state after ``step`` updates, to resume from. Only the latest is kept.

        An implementation may skip states that follow too soon, as long as the latest is kept when the stage fails.
        """

    def restore(self, tree: Tree) -> Tree:
        """The latest state kept by ``progress`` before an interruption, shaped as ``tree``; for a new run ``tree``."""

    def flights(self, step: int, measured: Any, noise: float) -> None:
        """Some filtered flights (``Measured``) of a measurement with observation noise ``noise`` [m], for pictures."""

    def event(self, step: int, text: str) -> None:
        """Something that a reader of the run should know: a stage boundary, a threshold that was missed."""


class SilentRecorder:
    """Ignores every call: a base class."""

    def begin(self, description: str, total_steps: int, done: int = 0) -> None: ...
    def metrics(self, step: int, values: Mapping[str, float]) -> None: ...
    def checkpoint(self, step: int, tree: Any, name: str) -> None: ...
    def progress(self, step: int, tree: Any) -> None: ...
    def flights(self, step: int, measured: Any, noise: float) -> None: ...
    def event(self, step: int, text: str) -> None: ...

    def restore(self, tree: Tree) -> Tree:
        return tree


def _to_each(name: str) -> Callable[..., None]:
    def forward(self: CompositeRecorder, *arguments: Any, **named: Any) -> None:
        for recorder in self.recorders:
            getattr(recorder, name)(*arguments, **named)

    return forward


class CompositeRecorder:
    """Passes every call on to each of several recorders."""

    def __init__(self, recorders: Sequence[Recorder]) -> None:
        self.recorders = tuple(recorders)

    begin, metrics, checkpoint = _to_each("begin"), _to_each("metrics"), _to_each("checkpoint")
    progress, flights, event = _to_each("progress"), _to_each("flights"), _to_each("event")

    def restore(self, tree: Tree) -> Tree:
        for recorder in self.recorders:
            tree = recorder.restore(tree)
        return tree
