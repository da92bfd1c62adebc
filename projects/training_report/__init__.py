"""``report``: one HTML page and one PDF on runs."""
