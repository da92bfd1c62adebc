"""Entry point ``register``: a trained policy and its evidence become a version of a registered model."""

from projects.running.launch import launch

if __name__ == "__main__":
    raise SystemExit(launch("register"))
