"""Entry point ``evaluate``: the evidence, over scenarios, noise and goals, with the filter on and off."""

from projects.running.launch import launch

if __name__ == "__main__":
    raise SystemExit(launch("evaluate"))
