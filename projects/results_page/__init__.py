"""``results``: the page that holds all measured policies, section by section."""
