"""Whole pages: the report as HTML and PDF, and the interactive 3-D viewer."""
