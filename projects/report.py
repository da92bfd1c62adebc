"""Entry point ``report``: one HTML page and one PDF on runs, as artifacts of the report's own run."""

from projects.running.launch import launch

if __name__ == "__main__":
    raise SystemExit(launch("report"))
