"""Drone policies trained through differentiable physics and a neural control barrier function."""
