"""Names under which a run keeps what it is and where it comes from."""

from __future__ import annotations

STAGE_TAG = "drone_cbf.stage"
PARENT_TAG = "drone_cbf.parent_run"
PROVIDES_TAG = "drone_cbf.provides"
FAILURE_TAG = "drone_cbf.failure"
DIGEST_TAG = "drone_cbf.config_digest"
"""Runs with the same value were given the same settings, parent and curriculum."""
PROCESS_TAG = "drone_cbf.process"
"""Host, process ID and start time of the process that writes the run."""
RESUMED_TAG = "drone_cbf.resumed"
"""How often an interrupted run was gone on with."""
NESTED_TAG = "mlflow.parentRunId"
NOTE_TAG = "mlflow.note.content"
CONFIG_FILE = "config.yaml"
EVENTS_FILE = "events.md"
