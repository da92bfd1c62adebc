"""Matplotlib figures, from plain numpy records."""
