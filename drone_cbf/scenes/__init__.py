"""Random scenes: one file per family, and the registry of families."""
