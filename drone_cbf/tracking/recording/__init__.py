"""Recorders: to MLflow in the background, and to the terminal."""
