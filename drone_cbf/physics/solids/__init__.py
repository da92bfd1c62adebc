"""The shapes of obstacles, each with nearest points, signed and swept distances, and rays in closed form."""
