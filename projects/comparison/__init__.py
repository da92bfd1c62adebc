"""``compare``: trained policies beside one another, over their seeds."""
