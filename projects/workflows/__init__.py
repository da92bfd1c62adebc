"""Entry points that run stages as their children: ``pipeline``, ``suite`` and ``reproduce``."""
