"""Monitoring of joint training: measurements, roll-backs, and the gate at the end of a stage."""
