"""Entry point ``compare``: trained policies side by side, over their seeds."""

from projects.running.launch import launch

if __name__ == "__main__":
    raise SystemExit(launch("compare"))
