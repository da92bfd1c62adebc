"""One update of the networks: the joint loss and its parts, optimisers, averages, and the health of the gradient."""
