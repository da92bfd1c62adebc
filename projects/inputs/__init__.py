"""What entry points are given by name: curricula, gates, recorded runs; and the digest of all that a stage is told."""
