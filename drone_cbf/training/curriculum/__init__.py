"""Curricula: stages, learning mechanisms and mixtures of strata."""
