"""Gymnasium environments over every scene family, sensor and drone of the package (docs/gymnasium.md)."""

try:
    import gymnasium as gymnasium
except ModuleNotFoundError as error:
    remedy = "install it: pip install -e '.[gym]' -c constraints.txt"
    raise ModuleNotFoundError(f"drone_cbf.gym needs gymnasium; {remedy}", name="gymnasium") from error
