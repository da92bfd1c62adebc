"""Evaluation over a matrix of scenarios, noise levels and goals, with confidence bounds."""
