"""Entry point ``sweep``: a search for good settings, as trials of one run, with what matters and the best of them."""

from projects.running.launch import launch

if __name__ == "__main__":
    raise SystemExit(launch("sweep"))
