"""The controller for callers outside: raw observations in batches, checked; safe commands out."""
