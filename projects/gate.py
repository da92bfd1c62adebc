"""Entry point ``gate``: judges an evaluation by thresholds and by the champion; only what passes is promoted."""

from projects.running.launch import launch

if __name__ == "__main__":
    raise SystemExit(launch("gate"))
