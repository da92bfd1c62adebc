"""Checkpoints and packages: Orbax files with a manifest of SHA-256 that is written last and verified first."""
