"""What every stage's main shares: run, parameters, parent, JAX set-up, recorder, summary, exit code."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from drone_cbf.config import SystemConfig
from drone_cbf.errors import ConfigError, DroneCbfError
from drone_cbf.recorder import ListRecorder, Recorder, SilentRecorder
from drone_cbf.tracking.recording.mlflow_recorder import MlflowRecorder, events_page
from drone_cbf.tracking.recording.progress_bar import ProgressRecorder
from drone_cbf.tracking.runs.lineage import Parent, load_config, resolve_parent
from drone_cbf.tracking.runs.presentation import mark_dry_run
from drone_cbf.tracking.runs.resuming import Stored, append_event, delete_progress
from drone_cbf.tracking.runs.stage_run import StageRun, failure_reason, run_link, stage_run
from drone_cbf.tracking.runs.store_trouble import store_trouble
from drone_cbf.tracking.tags import DEVICE_TAG, DIGEST_TAG
from drone_cbf.training.population import Programs
from projects.cli.arguments import KEPT_FROM_PARENT, as_recorded, build_system, parse, resume_request, run_named
from projects.cli.validation import explain
from projects.inputs.digests import config_digest
from projects.running.belief import store_belief
from projects.running.distributed import ADDRESS, CommonRecorder, is_asked_for, text_from_first
from projects.running.entry_points import EntryPoint
from projects.running.hints import resume_hint, tell_abandoned
from projects.running.interruption import interruptible
from projects.running.jax_setup import collect_rarely, configure_jax, device_name
from projects.running.run_names import run_name, scene_datasets

ROOT = Path(__file__).resolve().parents[2]


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
    programs: Programs | None = None
    """Compiled programs of the population that the stage is a member of, if any."""

    def draw(self, name: str, figure: Callable[[], Any]) -> None:
        """Uploads what ``figure`` draws as ``figures/<name>``; one that cannot be drawn does not fail the run."""
        try:
            drawn = figure()
        except ValueError as error:  # too little data, say
            self.recorder.event(len(self.history.rows), f"figure {name} was left out: {error}")
            return
        store = self.run.log_text if isinstance(drawn, str) else self.run.log_figure
        store(drawn, f"figures/{name}")


@dataclass(frozen=True)
class Outcome:
    """What a stage's work leaves behind."""

    summary: str
    """Markdown for the run's description."""
    provides: tuple[str, ...] = ()
    """Parts of the checkpoint ``final`` that later stages may use: ``policy``, ``barrier``."""
    shown: str = ""
    """Printed in the terminal when the run has finished: the result."""
    following: tuple[str, ...] = ()
    """Commands that use the result, printed last."""


Work = Callable[[Stage], Outcome]
Preview = Callable[[Any, Mapping[str, str]], str]
"""From parameters and given settings of the system to what would be done."""


def run_stage(entry: EntryPoint, work: Work, arguments: Sequence[str], preview: Preview | None = None) -> int:
    """Runs ``work`` as an MLflow run, or ``preview`` without one; the exit code: 0, 1 (failed) or 130 (interrupted)."""
    with interruptible():  # until all is said: a workflow that is interrupted ends its child with a second signal
        return _attempt(entry, work, arguments, preview)


def _attempt(entry: EntryPoint, work: Work, arguments: Sequence[str], preview: Preview | None) -> int:
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # small files: only noise
    shown = ProgressRecorder()
    run: StageRun | None = None
    try:
        resume = resume_request(entry.parameters, arguments)
        if preview is not None and _is_previewed(entry, preview, arguments):
            return 0
        with stage_run(entry.name, ROOT, resume, run_named(arguments)) as run:
            tell_abandoned(run)
            outcome = perform(entry, work, run, arguments, shown)
    except KeyboardInterrupt as error:
        place = f" at step {shown.done} of {shown.total}" if shown.total else ""
        hint = resume_hint(entry, run.run_id if run else None, place, arguments)
        return _complain(f"{entry.name} {hint}", error, 130)
    except Exception as error:
        if not (isinstance(error, DroneCbfError) or store_trouble(error)):  # not foreseen: its origin helps
            traceback.print_exc()
        return _complain(f"{entry.name} failed: {failure_reason(error)}", error, 1)
    clean_up(entry, run)
    link = run_link(run.run_id, run.experiment_id)
    lines = [outcome.shown, f"{entry.name} finished: run {run.run_id}, see {link} ('make ui' serves it)"]
    lines += [f"Next: {command}" for command in outcome.following]
    print("\n".join(filter(None, lines)), flush=True)
    return 0


def clean_up(entry: EntryPoint, run: StageRun) -> None:
    """Deletes what only an interrupted run needs; what goes wrong is an event, since the work is done and stored."""
    with suppress(KeyboardInterrupt):
        if trouble := delete_progress(run.run_id):
            print(f"{entry.name}: {trouble}", file=sys.stderr, flush=True)
            with suppress(Exception):
                append_event(run.run_id, trouble)


def _is_previewed(entry: EntryPoint, preview: Preview, arguments: Sequence[str]) -> bool:
    """Prints the plan, where the arguments ask for a dry run."""
    try:
        given = parse(entry.command, entry.parameters, arguments, entry.system)
    except ConfigError:
        return False  # reported by a run that can be marked as failed
    if given.parameters.dry_run:
        planned = preview(given.parameters, given.system_text)
        print(planned, flush=True)
        mark_dry_run(entry.name, planned)
    return bool(given.parameters.dry_run)


def _complain(reason: str, error: BaseException, code: int) -> int:
    """Prints the reason and the notes that a workflow has added to the error: how to go on."""
    print("\n".join([reason, *getattr(error, "__notes__", ())]), file=sys.stderr, flush=True)
    return code


def perform(
    entry: EntryPoint,
    work: Work,
    run: StageRun,
    words: Sequence[str],
    shown: ProgressRecorder,
    programs: Programs | None = None,
) -> Outcome:
    """Parses the command line, records what the run is given, and does its work.

    ``programs``: those of the population that the run is a member of, if any.
    """
    if is_asked_for() and not entry.is_divisible:
        raise ConfigError(
            f"{ADDRESS} is set, but only a training of one seed can be divided among processes; unset it, or start "
            "efficiency, pretrain_cbf or safety by itself"
        )
    parameters, system, parent, given_system = _prepare(entry, run, words)
    if entry.device:
        shown.prepare(entry.name)
        configure_jax(ROOT)
        collect_rarely()
        run.record_environment({DEVICE_TAG: device_name()})
        if entry.system:
            store_belief(run, system.physics)
    text_from_first(lambda: json.dumps(_settings(entry, parameters, system)))
    history = _History(run.stored)
    with recording(run, shown, history) as recorder:
        stage = Stage(run, parameters, system, given_system, parent, recorder, history, programs)
        try:
            outcome = work(stage)
        except ValidationError as error:  # settings that the stage builds from its parameters
            raise ConfigError(explain(error)) from error
    _conclude(run, outcome, history)
    return outcome


def _prepare(
    entry: EntryPoint, run: StageRun, words: Sequence[str]
) -> tuple[Any, SystemConfig, Parent | None, dict[str, str]]:
    """Parameters, system, parent, and what is given of the system, from the command line; all of it recorded."""
    given = parse(entry.command, entry.parameters, words, entry.system)
    resumed = bool(getattr(given.parameters, "resume_run", ""))
    if resumed:
        given = as_recorded(entry.parameters, given, load_config(run.run_id))
    if entry.of:
        run.tag(trains=entry.of)
    parameters = given.parameters if resumed else entry.complete(given.parameters)
    named = entry.parents and parameters.parent_run  # a suite may do without
    parent = resolve_parent(parameters.parent_run, entry.parents) if named else None
    inherited = parent.config.get("system") if parent else None
    if resumed:  # all of it is recorded
        system = build_system(inherited, given.system, KEPT_FROM_PARENT)
    else:
        system = entry.system_of(parameters, inherited, given.system)
    if parent is not None:
        run.tag(parent_run=parent.run_id)
    run.log_config(_settings(entry, parameters, system))
    if not (resumed and run.has_tag(DIGEST_TAG)):  # which was taken with the curriculum of its beginning
        run.tag(config_digest=config_digest(entry.name, parameters, system if entry.system else None))
    run.name(run_name(f"{entry.name}-{entry.of}" if entry.of else entry.name, parameters, parent))
    for dataset, context in scene_datasets(parameters, system):
        run.log_dataset(dataset, context)
    return parameters, system, parent, given.system_text


def _settings(entry: EntryPoint, parameters: Any, system: SystemConfig) -> dict[str, Any]:
    """All that the run is given, as plain values."""
    config = {"stage": entry.name, "parameters": parameters.model_dump(mode="json")}
    return config | ({"system": system.model_dump(mode="json")} if entry.system else {})


def _conclude(run: StageRun, outcome: Outcome, history: ListRecorder) -> None:
    events = list(dict.fromkeys(history.events))  # without those that a resumed run met again
    notes = f"\n\n### Events\n\n{events_page(events)}" if events else ""
    run.describe(outcome.summary + notes)
    if outcome.provides:
        run.tag(provides=",".join(outcome.provides))


@contextmanager
def recording(run: StageRun, shown: ProgressRecorder, history: ListRecorder) -> Iterator[Recorder]:
    """A recorder that stores, shows and remembers; everything is stored when the block ends."""
    store = MlflowRecorder(run)
    try:
        with closing(shown):
            yield CommonRecorder((store, shown, history))
    except BaseException:
        with suppress(DroneCbfError):  # the first failure is the one to report
            store.close(interrupted=True)
        raise
    store.close()


class _History(ListRecorder):
    """Begins with what an interrupted run has stored."""

    def __init__(self, stored: Stored) -> None:
        super().__init__(rows=list(stored.rows), events=list(stored.events))
        self.known = stored.rows[-1]["step"] if stored.rows else -1.0

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        if step > self.known:  # a resumed run repeats some steps
            super().metrics(step, values)

    # Not kept: they may be large, and their buffers may be donated to the next update.
    checkpoint, progress = SilentRecorder.checkpoint, SilentRecorder.progress
