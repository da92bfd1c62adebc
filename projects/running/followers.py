"""The processes of a training beside the first one: they compute, and leave store and files to that one."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from typing import Any, NoReturn

import jax

from drone_cbf.config import SystemConfig
from drone_cbf.errors import ConfigError
from drone_cbf.recorder import ListRecorder
from drone_cbf.tracking.runs.silent_run import SilentRun
from projects.running.distributed import ADDRESS, COUNT, INDEX, CommonRecorder, is_follower, text_from_first
from projects.running.entry_points import ENTRY_POINTS, EntryPoint
from projects.running.jax_setup import configure_jax
from projects.running.stage_runner import ROOT, Stage

STARTING = 300
"""Longest wait for the other processes [s]."""


def carry_out(entry: EntryPoint, first: Callable[[], int]) -> NoReturn:
    """Joins the other processes and does this one's part: ``first`` in process 0, else :func:`follow`. Then exits.

    One that fails does not wait for the others: that it is gone is what ends them.
    """
    try:
        join()
    except Exception as error:
        code = _failed(entry, f"the {os.environ.get(COUNT, '')} processes did not find together ({error})")
    else:
        code = follow(entry) if is_follower() else first()
    if code == 0:
        jax.distributed.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def join() -> None:
    """Makes this process one of several; number and index that are not set are those of Slurm, Open MPI or Kubernetes.

    Raises:
        ConfigError: a variable holds no number.
    """
    configure_jax(ROOT)
    jax.distributed.initialize(num_processes=_number(COUNT), process_id=_number(INDEX), initialization_timeout=STARTING)


def follow(entry: EntryPoint) -> int:
    """Does the work of ``entry`` with the settings of process 0; the exit code."""
    try:
        given = json.loads(text_from_first(str))
        if given["stage"] != entry.name:
            raise ConfigError(f"process 0 runs {given['stage']}; start the same entry point in every process")
        parameters = ENTRY_POINTS[entry.name].parameters.model_validate(given["parameters"])
        system = SystemConfig.model_validate(given["system"])
        history = ListRecorder()
        stage = Stage(SilentRun(), parameters, system, {}, None, CommonRecorder((history,)), history)
        import_module(entry.work).work(stage)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if not isinstance(error, ConfigError):
            traceback.print_exc()
        return _failed(entry, str(error))
    print(f"{entry.name}: process {jax.process_index()} has done its part", flush=True)
    return 0


def _number(variable: str) -> int | None:
    text = os.environ.get(variable)
    if text is None:
        return None
    if not text.isdecimal():
        raise ConfigError(f"{variable} = {text} is not a number; {ADDRESS} is set, so the processes are to be counted")
    return int(text)


def _failed(entry: EntryPoint, reason: Any) -> int:
    print(f"{entry.name} failed: {reason}", file=sys.stderr, flush=True)
    return 1
