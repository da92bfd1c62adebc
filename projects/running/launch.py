"""Starts an entry point by name; answers ``--help`` before anything slow is imported."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from importlib import import_module

import projects.running.parent  # noqa: F401  (first of all)
from projects.running.worker import WORKER, hand_over, stage_worker


def launch(name: str, argv: Sequence[str] | None = None) -> int:
    """Runs the entry point ``name`` with ``argv`` (default: the command line's); returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    show_any_text()
    if WORKER in os.environ and (code := hand_over(os.environ[WORKER], name, arguments)) is not None:
        return code
    from projects.cli.help import help_text
    from projects.running.entry_points import ENTRY_POINTS

    entry = ENTRY_POINTS[name]
    if "--help" in arguments or "-h" in arguments:
        print(help_text(entry.name, entry.parameters, entry.system))
        return 0
    with stage_worker() if entry.worker else nullcontext():
        from projects.running.distributed import is_asked_for
        from projects.running.populations import as_asked
        from projects.running.stage_runner import run_stage

        entry = as_asked(entry, arguments)
        module = import_module(entry.work)

        def work() -> int:
            return run_stage(entry, module.work, arguments, getattr(module, "preview", None))

        if is_asked_for() and entry.is_divisible:
            from projects.running.followers import carry_out

            carry_out(entry, work)
        return work()


def show_any_text() -> None:
    """Where the terminal's encoding lacks a character (``m²`` in ASCII), an escape stands for it, and nothing fails."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
