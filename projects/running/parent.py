"""The process that started this one, noted before the slow imports: it may be gone by their end."""

from __future__ import annotations

import os

PARENT = os.getppid()


def is_orphan() -> bool:
    """Whether the process that started this one has ended."""
    return os.getppid() != PARENT
