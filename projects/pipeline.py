"""Entry point ``pipeline``: the four stages as children of one run; stops at the first failure and says where."""

from projects.running.launch import launch

if __name__ == "__main__":
    raise SystemExit(launch("pipeline"))
