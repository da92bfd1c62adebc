"""``register`` and ``gate``: model versions, what is stored with them, and the verdict that promotes them."""
