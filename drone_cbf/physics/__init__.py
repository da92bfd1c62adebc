"""The simulated world: drone state and dynamics, disturbances, obstacles."""
