"""Training: updates, curricula and the three learning stages. Knows no MLflow, no files and no clock."""
