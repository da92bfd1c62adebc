"""Curricula: stages, learning mechanisms, mixtures of strata, and the factors by which a monitor adapts them."""
