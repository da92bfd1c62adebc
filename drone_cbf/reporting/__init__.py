"""Figures, tables and the interactive viewer. Plain numpy in; Figure, HTML or Markdown out. Knows no MLflow, no JAX."""
