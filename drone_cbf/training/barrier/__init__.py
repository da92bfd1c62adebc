"""Training the neural barrier: losses, minibatches, gradient steps and validation."""
