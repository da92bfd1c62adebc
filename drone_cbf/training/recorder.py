"""What training tells the world: a small protocol that MLflow, a progress bar or a list can implement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from drone_cbf.training.data.flights import Measured

Tree = TypeVar("Tree")


class Recorder(Protocol):
    """Receives the progress of a training stage. Implementations must not block on slow storage for long."""

    def begin(self, description: str, total_steps: int, done: int = 0) -> None:
        """A progress bar: a phase of ``total_steps`` updates, ``done`` of them earlier, starts or changes its total."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Figures of one update, by metric name (DESIGN 6), already on the host."""

    def checkpoint(self, step: int, tree: Any, name: str) -> None:
        """A complete, resumable state: a dictionary of pytrees; ``name`` is its folder below ``checkpoints/``."""

    def progress(self, step: int, tree: Any) -> None:
        """The state after ``step`` updates, complete: what an interrupted run goes on from. Only the latest is kept.

        An implementation may pass over states that follow too soon, as long as the latest is kept when the stage fails.
        """

    def restore(self, tree: Tree) -> Tree:
        """The latest state kept by ``progress`` before an interruption, shaped as ``tree``; for a new run ``tree``."""

    def flights(self, step: int, measured: Measured, noise: float) -> None:
        """A few of the filtered flights with observation noise ``noise`` [m] that a measurement flew, for pictures."""

    def event(self, step: int, text: str) -> None:
        """Something a reader of the run should know: a stage boundary, an unmet threshold."""


class SilentRecorder:
    """Hears everything and keeps nothing: to build on."""

    def begin(self, description: str, total_steps: int, done: int = 0) -> None: ...
    def metrics(self, step: int, values: Mapping[str, float]) -> None: ...
    def checkpoint(self, step: int, tree: Any, name: str) -> None: ...
    def progress(self, step: int, tree: Any) -> None: ...
    def flights(self, step: int, measured: Measured, noise: float) -> None: ...
    def event(self, step: int, text: str) -> None: ...

    def restore(self, tree: Tree) -> Tree:
        return tree


@dataclass
class ListRecorder(SilentRecorder):
    """Keeps everything in memory: for tests and notebooks."""

    phases: list[tuple[str, int]] = field(default_factory=list)
    rows: list[dict[str, float]] = field(default_factory=list)
    checkpoints: dict[str, Any] = field(default_factory=dict)
    events: list[tuple[int, str]] = field(default_factory=list)
    states: dict[int, Any] = field(default_factory=dict)
    """What ``progress`` was given, by step."""
    saved: Any = None
    """What ``restore`` returns, if anything: the state of an interrupted run."""

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
