"""The controller for external callers: from batches of checked raw observations to safe commands."""
