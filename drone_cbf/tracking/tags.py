"""Names of tags and artifacts of a run."""

from __future__ import annotations

from collections.abc import Mapping

STAGE_TAG = "drone_cbf.stage"
PARENT_TAG = "drone_cbf.parent_run"
PROVIDES_TAG = "drone_cbf.provides"
FAILURE_TAG = "drone_cbf.failure"
DEVICE_TAG = "drone_cbf.device"
VERSIONS_TAG = "drone_cbf.versions"
"""Versions of Python and of the packages that decide the figures: ``jax 0.10.2, numpy 2.4.6, ...``."""
VERSION_PREFIX = "drone_cbf.version."  # Older runs have one such tag per package in place of ``VERSIONS_TAG``
COMMIT_TAG = "mlflow.source.git.commit"
DIRTY_TAG = "drone_cbf.git_dirty"
DIGEST_TAG = "drone_cbf.config_digest"  # Equal for runs with the same settings, parent and curriculum
TRAINS_TAG = "drone_cbf.trains"  # On the run of a population: the stage that its members are trained by
PROCESS_TAG = "drone_cbf.process"  # Host, process ID and start of the process that writes the run
RESUMED_TAG = "drone_cbf.resumed"  # How often an interrupted run was resumed
RESUMES_TAG = "drone_cbf.resumes"
"""On a run that ``mlflow run`` prepared: the interrupted run that was resumed in its place."""
INTERRUPTED = "interrupted"  # Start of the reason (``FAILURE_TAG``) of a run that was stopped from outside
RESUMED_WITH_TAG = "drone_cbf.resumed_with"
"""Changes of versions, commit or device since the start of a resumed run; results may not be bit-identical."""
NESTED_TAG = "mlflow.parentRunId"
NOTE_TAG = "mlflow.note.content"
CONFIG_FILE = "config.yaml"
EVENTS_FILE = "events.md"
PLAN_FILE = "plan.json"  # What a pipeline, suite, sweep or population has set out to do, by which it is resumed
GROUPS = ("pipeline", "suite", "sweep", "population")  # Stages whose work is done by the runs nested in them
CURRICULUM_FILE = "curriculum.json"
"""The curriculum that a safety run was given, in full: its file may change afterwards."""


def entry_of(tags: Mapping[str, str]) -> str:
    """The entry point that made a run; empty for a run of another project."""
    return tags.get(TRAINS_TAG) or tags.get(STAGE_TAG, "")


def versions_of(tags: Mapping[str, str]) -> dict[str, str]:
    """Package (or ``python``) -> version, from the tags of a run of any age."""
    old = {key.removeprefix(VERSION_PREFIX): text for key, text in tags.items() if key.startswith(VERSION_PREFIX)}
    listed = filter(None, tags.get(VERSIONS_TAG, "").split(", "))
    return {name: version for name, _, version in (entry.partition(" ") for entry in listed)} | old


def environment_of(tags: Mapping[str, str]) -> dict[str, str]:
    """All that decides whether a run can be repeated bit for bit: versions, commit, uncommitted changes, device."""
    named = {COMMIT_TAG: "commit", DIRTY_TAG: "uncommitted changes", DEVICE_TAG: "device"}
    found = {f"version.{name}": version for name, version in versions_of(tags).items()}
    return found | {name: tags[tag] for tag, name in named.items() if tag in tags}
