"""Entry point ``export``: a registered policy becomes programs for other runtimes, checked against what is served."""

from projects.running.launch import launch

if __name__ == "__main__":
    raise SystemExit(launch("export"))
