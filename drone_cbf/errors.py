"""Errors raised at the edges of drone_cbf. Inside ``jit`` a failure is data, not an exception."""


class DroneCbfError(Exception):
    """Base of every error that a user can cause and fix. The message is one line and ends with the remedy."""


class ConfigError(DroneCbfError):
    """A setting is unknown, has the wrong type, or lies outside its allowed range."""


class LineageError(DroneCbfError):
    """A parent run is missing, unfinished, failed, or lacks what this stage needs."""


class CheckpointError(DroneCbfError):
    """A checkpoint is absent, incomplete, altered, or does not match the shapes of the configuration."""


class TrainingError(DroneCbfError):
    """Training cannot continue: too many non-finite updates, or a stage that misses its thresholds."""


class ObservationError(DroneCbfError):
    """An observation sent to a served policy lacks a field, has a wrong shape or type, or is not finite."""


class GateError(DroneCbfError):
    """An evaluation does not pass the gate."""


class ReproductionError(DroneCbfError):
    """A repeated run did not reproduce the recorded metrics."""
