"""Flights as files of the robotics viewers: MCAP with Foxglove's schemas, and Rerun."""
