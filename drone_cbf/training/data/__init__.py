"""What is learned from: batches of scenes, fresh flights, flown states with their labels, flights kept for replay."""
