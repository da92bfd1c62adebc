"""Entry point ``efficiency``: a policy that flies, without a safety filter."""

from projects.running.launch import launch

if __name__ == "__main__":
    raise SystemExit(launch("efficiency"))
