"""Training data: batches of scenes, fresh flights, labelled flown states, and the replay buffer."""
