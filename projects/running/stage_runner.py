"""What every stage's main shares: run, parameters, parent, JAX set-up, recorder, summary, exit code."""

from __future__ import annotations

import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from pydantic import ValidationError

from drone_cbf.config import SystemConfig
from drone_cbf.errors import ConfigError, DroneCbfError
from drone_cbf.recorder import CompositeRecorder, Recorder
from drone_cbf.tracking.recording.mlflow_recorder import MlflowRecorder, events_page
from drone_cbf.tracking.recording.progress_bar import ProgressRecorder
from drone_cbf.tracking.runs.lineage import Parent, load_config, resolve_parent
from drone_cbf.tracking.runs.resuming import Stored, delete_progress
from drone_cbf.tracking.runs.stage_run import StageRun, failure_reason, run_link, stage_run
from drone_cbf.tracking.tags import DEVICE_TAG
from drone_cbf.training.recorder import ListRecorder
from projects.cli.arguments import KEPT_FROM_PARENT, as_recorded, build_system, parse, resume_request
from projects.cli.validation import explain
from projects.inputs.digests import config_digest
from projects.running.entry_points import EntryPoint
from projects.running.run_names import run_name, scene_datasets

ROOT = Path(__file__).resolve().parents[2]

NO_FUSION_EMITTERS = "--xla_cpu_use_fusion_emitters=false"
"""A flag of XLA. Code from the fusion emitters runs no faster here and takes longer to compile: with and without them,
from nothing compiled, efficiency takes 61 and 54 s on two cores, the default joint training 147 and 126 s."""
MIDDLE_PER_FULL = 1000
"""Collections of the middle generation between two full ones (Python: 10); a run of minutes makes some hundred."""


@dataclass(frozen=True)
class Stage:
    """All that the work of a stage is given."""

    run: StageRun
    parameters: Any
    """An instance of the entry point's parameters."""
    system: SystemConfig
    """The defaults where the entry point has no system of its own."""
    given_system: dict[str, str]
    """What the command line sets of the system, as given: dotted name -> text."""
    parent: Parent | None
    recorder: Recorder
    history: ListRecorder
    """The figures recorded so far, for curves."""

    def draw(self, name: str, figure: Callable[[], Any]) -> None:
        """Uploads what ``figure`` draws as ``figures/<name>``.

        Figures that cannot be drawn (ValueError: too little data, say) are an event of the run: what was learned must
        not be lost over them.
        """
        try:
            drawn = figure()
        except ValueError as error:
            self.recorder.event(len(self.history.rows), f"figure {name} was left out: {error}")
            return
        if isinstance(drawn, str):
            self.run.log_text(drawn, f"figures/{name}")
        else:
            self.run.log_figure(drawn, f"figures/{name}")


@dataclass(frozen=True)
class Outcome:
    """What a stage's work leaves behind."""

    summary: str
    """Markdown for the run's description."""
    provides: tuple[str, ...] = ()
    """Parts of the checkpoint ``final`` that later stages may use: ``policy``, ``barrier``."""


Work = Callable[[Stage], Outcome]


def run_stage(entry: EntryPoint, work: Work, arguments: Sequence[str]) -> int:
    """Runs ``work`` as one MLflow run and returns the exit code: 0, 1 for a failure, 130 when interrupted."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # small files: only noise
    try:
        resume = resume_request(entry.parameters, arguments)
        with _termination_interrupts(), stage_run(entry.name, ROOT, resume) as run:
            _perform(entry, work, run, arguments)
    except KeyboardInterrupt as error:
        return _complain(entry, failure_reason(error), 130)
    except DroneCbfError as error:
        return _complain(entry, failure_reason(error), 1)
    except Exception as error:  # not foreseen: its origin helps whoever repairs it
        traceback.print_exc()
        return _complain(entry, failure_reason(error), 1)
    print(
        f"{entry.name} finished: run {run.run_id}, see {run_link(run.run_id, run.experiment_id)} ('make ui' serves it)"
    )
    return 0


def _perform(entry: EntryPoint, work: Work, run: StageRun, arguments: Sequence[str]) -> None:
    given = parse(entry.name, entry.parameters, arguments, entry.system)
    resumed = bool(getattr(given.parameters, "resume_run", ""))
    if resumed:
        given = as_recorded(entry.parameters, given, load_config(run.run_id))
    parameters = given.parameters
    named = entry.parents and parameters.parent_run  # a suite may do without
    parent = resolve_parent(parameters.parent_run, entry.parents) if named else None
    inherited = parent.config.get("system") if parent else None
    if resumed:  # all of it is recorded
        system = build_system(inherited, given.system, KEPT_FROM_PARENT)
    else:
        system = entry.system_of(parameters, inherited, given.system)
    if parent is not None:
        run.tag(parent_run=parent.run_id)
    config = {"stage": entry.name, "parameters": parameters.model_dump(mode="json")}
    run.log_config(config | ({"system": system.model_dump(mode="json")} if entry.system else {}))
    if not resumed:  # it has its digest, with the curriculum of its beginning
        run.tag(config_digest=config_digest(entry.name, parameters, system if entry.system else None))
    run.name(run_name(entry.name, parameters, parent))
    for dataset, context in scene_datasets(parameters, system):
        run.log_dataset(dataset, context)
    if entry.device:
        configure_jax()
        collect_rarely()
        run.record_environment({DEVICE_TAG: device_name()})
    history = _History(run.stored)
    with recording(run, history) as recorder:
        stage = Stage(run, parameters, system, given.system_text, parent, recorder, history)
        outcome = _work(work, stage)
    events = list(dict.fromkeys(history.events))  # without those that a resumed run met again
    notes = f"\n\n### Events\n\n{events_page(events)}" if events else ""
    run.describe(outcome.summary + notes)
    if outcome.provides:
        run.tag(provides=",".join(outcome.provides))
    delete_progress(run.run_id)


def _work(work: Work, stage: Stage) -> Outcome:
    try:
        return work(stage)
    except ValidationError as error:  # settings that the stage builds from its parameters
        raise ConfigError(explain(error)) from error


@contextmanager
def recording(run: StageRun, history: ListRecorder) -> Iterator[Recorder]:
    """A recorder that stores, shows and remembers; everything is stored when the block ends."""
    store, shown = MlflowRecorder(run), ProgressRecorder()
    try:
        yield CompositeRecorder((store, shown, history))
    except BaseException:
        shown.close()
        with suppress(DroneCbfError):  # the first failure is the one to report
            store.close(interrupted=True)
        raise
    shown.close()
    store.close()


class _History(ListRecorder):
    """Begins with what an interrupted run has stored."""

    def __init__(self, stored: Stored) -> None:
        super().__init__(rows=list(stored.rows), events=list(stored.events))
        self.known = stored.rows[-1]["step"] if stored.rows else -1.0

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Steps that a resumed run repeats are there already."""
        if step > self.known:
            super().metrics(step, values)

    def checkpoint(self, step: int, tree: Any, name: str) -> None:
        """Not kept: it may be large, and its buffers may be donated to the next update."""

    def progress(self, step: int, tree: Any) -> None:
        """Not kept, for the same reasons."""


def own_interpreter_first() -> None:
    """Puts this interpreter's folder first on PATH: children must run in its environment, activated or not."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def configure_jax() -> None:
    """Keeps compiled programs between runs, in ``.jax_cache`` of the project or in the user's cache folder.

    A CPU is used as several devices, one per core, among which a batch of flights is shared out: XLA spreads single
    operations over the cores, and those of one flight are too small for that.
    """
    if NO_FUSION_EMITTERS not in (flags := os.environ.get("XLA_FLAGS", "")):
        os.environ["XLA_FLAGS"] = f"{NO_FUSION_EMITTERS} {flags}".strip()  # of two the last counts: what somebody set
    with suppress(RuntimeError):  # a notebook or a test has computed already: it keeps the devices it has
        jax.config.update("jax_num_cpu_devices", cpu_devices())
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        fallback = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "drone_cbf"
        folder = ROOT / ".jax_cache" if os.access(ROOT, os.W_OK) else fallback
        jax.config.update("jax_compilation_cache_dir", str(folder))
        # Small programs too: a stage compiles dozens of them, and the next stage the same ones.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def collect_rarely() -> None:
    """Makes full garbage collections rare; young garbage is collected as ever.

    Each visits all that JAX has traced: half a second in which nothing learns, set off by the storing of figures.
    """
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, MIDDLE_PER_FULL)


def cpu_devices() -> int:
    """The largest power of two that is at most the number of cores: it divides the usual batches."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 1 << (cores.bit_length() - 1)


def device_name() -> str:
    """Kind and number of the devices that JAX uses."""
    devices = jax.devices()
    return f"{len(devices)} x {devices[0].platform} ({devices[0].device_kind})"


@contextmanager
def _termination_interrupts() -> Iterator[None]:
    """SIGTERM ends the stage as Ctrl-C does, once: a second one must not cut the closing of the run short."""

    def interrupt(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt("SIGTERM")

    before = signal.getsignal(signal.SIGTERM)
    try:
        signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread: signals are not ours
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _complain(entry: EntryPoint, reason: str, code: int) -> int:
    print(f"{entry.name} failed: {reason}", file=sys.stderr)
    return code
