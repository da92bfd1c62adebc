"""Registered policies: versions, the model that is served, gates and their verdicts."""
