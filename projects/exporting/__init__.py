"""``export``: a registered policy as files that fly without this package."""
