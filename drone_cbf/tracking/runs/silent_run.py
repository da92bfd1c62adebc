"""The run of a process that leaves the store to another one."""

from __future__ import annotations

from typing import Any

from drone_cbf.tracking.runs.stage_run import StageRun


class SilentRun(StageRun):
    """Takes everything and stores nothing."""

    def __init__(self) -> None:
        super().__init__("", "", "")

    def has_tag(self, name: str) -> bool:
        return False

    def record_environment(self, *arguments: Any, **named: Any) -> None: ...

    def _ignore(self, *arguments: Any, **named: Any) -> None: ...

    tag = name = describe = log_config = log_params = _ignore
    log_metrics = log_file = log_text = log_figure = log_table = log_image = log_dataset = _ignore
