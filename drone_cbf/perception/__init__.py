"""From the world to what the controller knows: sensor, estimate over time, fixed-size masked graph."""
