"""Trajectory -> loss terms and figures. Never steps physics."""
