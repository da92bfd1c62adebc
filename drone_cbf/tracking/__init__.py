"""Runs, metrics, checkpoints and lineage in MLflow. The only package that imports mlflow and orbax."""
