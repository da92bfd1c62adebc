"""``compare``: trained policies side by side, over their seeds."""
