"""A recorder that keeps everything in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from drone_cbf.recorder import SilentRecorder

Tree = TypeVar("Tree")


@dataclass
class ListRecorder(SilentRecorder):
    """Keeps everything in memory: for tests and notebooks."""

    phases: list[tuple[str, int]] = field(default_factory=list)
    rows: list[dict[str, float]] = field(default_factory=list)
    checkpoints: dict[str, Any] = field(default_factory=dict)
    events: list[tuple[int, str]] = field(default_factory=list)
    states: dict[int, Any] = field(default_factory=dict)
    """Passed to ``progress``, by step."""
    saved: Any = None
    """Returned by ``restore``, if not None: the state of an interrupted run."""

    def begin(self, description: str, total_steps: int, done: int = 0) -> None:
        self.phases.append((description, total_steps))

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.rows.append({"step": float(step), **values})

    def checkpoint(self, step: int, tree: Any, name: str) -> None:
        self.checkpoints[name] = tree

    def progress(self, step: int, tree: Any) -> None:
        import jax

        self.states[step] = jax.device_get(tree)

    def restore(self, tree: Tree) -> Tree:
        return tree if self.saved is None else self.saved

    def event(self, step: int, text: str) -> None:
        self.events.append((step, text))
