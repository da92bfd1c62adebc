"""Queries about recorded runs: records, selections, evaluations, agreement."""
