"""Loss terms and metrics of trajectories. Never steps physics."""
