"""Entry point ``suite``: every curriculum with every seed, trained, evaluated and compared, as children of one run."""

from projects.running.launch import launch

if __name__ == "__main__":
    raise SystemExit(launch("suite"))
