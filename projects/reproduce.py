"""Entry point ``reproduce``: runs a recorded run again and says, metric by metric, whether it agrees."""

from projects.running.launch import launch

if __name__ == "__main__":
    raise SystemExit(launch("reproduce"))
