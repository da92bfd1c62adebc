"""Training: updates, curricula and the three stages. Independent of MLflow, files and clocks."""
