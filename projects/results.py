"""Entry point ``results``: the results page of the repository, written from recorded runs."""

from projects.running.launch import launch

if __name__ == "__main__":
    raise SystemExit(launch("results"))
