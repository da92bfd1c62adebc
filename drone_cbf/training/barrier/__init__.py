"""How the neural barrier learns: its losses, its minibatches, its gradient steps, and its validation."""
