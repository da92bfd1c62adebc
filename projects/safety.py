"""Entry point ``safety``: policy and barrier learn jointly, through the filter, under a curriculum."""

from projects.running.launch import launch

if __name__ == "__main__":
    raise SystemExit(launch("safety"))
