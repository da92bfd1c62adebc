"""Point mass with lag, delay and drag in float64: scipy integrates the differential equation, nothing is stepped."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.integrate import solve_ivp

ACCURACY = 1e-10
"""Relative tolerance of the integrator: far below float32."""


@dataclass(frozen=True)
class Air:
    """Constants of the equation, SI units."""

    lag: float
    linear: float = 0.0
    quadratic: float = 0.0
    wind: tuple[float, float, float] = (0.0, 0.0, 0.0)
    bias: tuple[float, float, float] = (0.0, 0.0, 0.0)


def fly(
    start: np.ndarray, commands: np.ndarray, period: float, delay: float, times: np.ndarray, air: Air
) -> np.ndarray:
    """(p, v, a) at each of ``times``, shape (t, 9).

    Command k is sent at ``k * period`` and acts from then on delayed; before the first one arrives, zero acts.
    """
    switches = [0.0] + [k * period + delay for k in range(len(commands))]
    acting = [np.zeros(3), *commands]
    state, result = start.astype(np.float64), np.full((len(times), 9), np.nan)
    for begin, end, command in zip(switches, [*switches[1:], np.inf], acting, strict=True):
        end = min(end, times[-1])
        if end <= begin:
            continue
        # No period is longer than this slack, and a time on a switch belongs to both sides.
        inside = (times >= begin - 1e-9) & (times <= end + 1e-9)
        asked = np.clip(times[inside], begin, end)
        solution = solve_ivp(
            slope, (begin, end), state, args=(command, air), t_eval=np.unique([begin, *asked, end]),
            rtol=ACCURACY, atol=ACCURACY, method="DOP853",
        )  # fmt: skip
        result[inside] = solution.y.T[np.searchsorted(solution.t, asked - 1e-9)]
        state = solution.y[:, -1]
    return result


def slope(_: float, state: np.ndarray, command: np.ndarray, air: Air) -> np.ndarray:
    """d(p, v, a)/dt."""
    velocity, thrust = state[3:6], state[6:]
    moving = velocity - np.asarray(air.wind)
    drag = -(air.linear + air.quadratic * np.linalg.norm(moving)) * moving
    return np.concatenate([velocity, thrust + drag + air.bias, (command - thrust) / air.lag])
