"""What a stage reports while it runs: to MLflow in the background, and to the terminal."""
