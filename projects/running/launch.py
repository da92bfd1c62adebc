"""Starts an entry point by name; answers ``--help`` before anything slow is imported."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from projects.cli.arguments import wants_help
from projects.cli.help import help_text
from projects.running.entry_points import ENTRY_POINTS


def launch(name: str, argv: Sequence[str] | None = None) -> int:
    """Runs the entry point ``name`` with ``argv`` (default: the command line's); returns the exit code."""
    entry = ENTRY_POINTS[name]
    arguments = list(sys.argv[1:] if argv is None else argv)
    if wants_help(arguments):
        print(help_text(entry.name, entry.parameters, entry.system))
        return 0
    from projects.running.stage_runner import run_stage

    module = import_module(entry.work)
    return run_stage(entry, module.work, arguments, getattr(module, "preview", None))
