"""Control barrier functions over the graph: analytic, neural, their blend and calibration, and the row they imply."""
