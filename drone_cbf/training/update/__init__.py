"""One update of the networks: joint loss, gradients, optimisers, averages, and health checks of the gradient."""
