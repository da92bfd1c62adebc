"""The entry points, and one MLflow run around the work of each."""
