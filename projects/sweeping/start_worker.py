"""Starts a worker: ``python -m projects.sweeping.start_worker <sweep run> <first parent> <output file>``."""

import sys

import projects.running.parent  # noqa: F401  (first of all: the sweep may be gone when all else is imported)

if __name__ == "__main__":
    from projects.sweeping.worker import main

    sys.exit(main(*sys.argv[1:]))
