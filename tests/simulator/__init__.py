"""A second simulator, which shares no code with ``drone_cbf``: registered models are flown in it from raw scans.

float64 numpy and scipy; derived and written apart from the package, so that an error in one is no error in the other.
SI units, world frame with z up. ``python -m tests.simulator --help`` flies a model from the command line.
"""
