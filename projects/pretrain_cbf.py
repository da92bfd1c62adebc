"""Entry point ``pretrain_cbf``: the neural barrier learns value and gradient of the analytic one, and is calibrated."""

from projects.running.launch import launch

if __name__ == "__main__":
    raise SystemExit(launch("pretrain_cbf"))
