"""Entry point ``sweep``: a search for good settings, trial after trial."""
