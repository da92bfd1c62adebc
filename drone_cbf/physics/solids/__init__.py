"""The shapes that obstacles are made of, each with nearest points, signed and swept distances, and rays in closed form."""
