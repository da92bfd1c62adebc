"""The errors that drone_cbf raises at its edges. Inside ``jit`` a failure is data, never one of these."""


class DroneCbfError(Exception):
    """Base of every error a user can cause and cure. Its message is one line and ends with the remedy."""


class ConfigError(DroneCbfError):
    """A setting is unknown, has the wrong type, or lies outside its allowed range."""


class LineageError(DroneCbfError):
    """A parent run is missing, unfinished, failed, or lacks what this stage needs."""


class CheckpointError(DroneCbfError):
    """A checkpoint is absent, incomplete, altered, or of another shape than the configuration."""


class TrainingError(DroneCbfError):
    """Training cannot go on: a non-finite loss, a curriculum stage that cannot be met."""


class ObservationError(DroneCbfError):
    """An observation handed to a served policy lacks a field, has another shape or type, or is not finite."""


class GateError(DroneCbfError):
    """An evaluation does not pass the gate."""


class ReproductionError(DroneCbfError):
    """A run that was repeated gave other figures than the recorded one."""
