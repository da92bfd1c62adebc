"""The lag and delay by which a double integrator describes a drone best: fitted to step responses of its simulation.

Deterministic: the best of a grid, refined once, to a millisecond. What the belief leaves over is measured on other
flights.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from drone_cbf.arrays import Scalar, Vector
from drone_cbf.physics.belief import predicted
from drone_cbf.physics.drone import DroneParams, DroneState

LAGS, DELAYS = 25, 21  # Sizes of both grids
COARSE, FINE = 0.01, 0.001  # Their spacings [s]
WAYS = ((1, 0, 0), (0, 1, 0), (-0.7, 0.7, 0), (0, 0, 1), (0, 0, -1), (0.6, 0, 0.6), (0, 0.6, -0.6))
SIZES = (1.5, 4.0)  # Of the steps [m/s^2]
HELD = 0.6  # How long each step is held before it is reversed [s]
LONGEST_HOLD = 6  # The most periods for which a command of a held-out flight is held


Step = Callable[[DroneState, Vector, DroneParams], DroneState]


@dataclass(frozen=True)
class Effective:
    """A double integrator in place of a drone."""

    level_lag: float  # Time constant of its lag along the x and y axes [s]
    vertical_lag: float  # The same along the z axis
    delay: float  # Transport delay included [s]
    error: float | None
    """Largest difference of the velocity along an axis in 99 % of the steps of held-out flights [m/s]; None where the
    belief was not fitted."""

    @property
    def lags(self) -> tuple[float, float, float]:
        """Along each world axis [s]."""
        return self.level_lag, self.level_lag, self.vertical_lag

    @property
    def ahead(self) -> tuple[float, float, float]:
        """Lag and delay together [s]: how long after it is sent a command acts along each axis."""
        return self.delay + self.level_lag, self.delay + self.level_lag, self.delay + self.vertical_lag


def fit_effective(step: Step, rest: DroneState, drone: DroneParams, transport: float, time_step: float) -> Effective:
    """The double integrator that follows a drone flown by ``step`` from ``rest`` most closely in velocity.

    ``drone``: its parameters, with the drag that the belief has too; the queue of ``rest`` holds :func:`fit_queue`
    commands. Arguments are plain arrays, not those of a function that is being traced.
    """
    flights, others = jnp.asarray(_steps(time_step)), jnp.asarray(_held_out(time_step))
    flown, believed = jax.jit(_make_flown(step)), _make_believed(time_step)
    compare = jax.jit(jax.vmap(_make_differences(rest, flights, flown(rest, flights, drone), drone, time_step)))
    lags, delays = COARSE * np.arange(LAGS), COARSE * np.arange(DELAYS)
    level, vertical, delay = _best(compare, (lags, lags), transport + delays)
    lags, delays = FINE * (np.arange(LAGS) - LAGS // 2), FINE * (np.arange(DELAYS) - DELAYS // 2)
    around = np.maximum(level + lags, 0.0), np.maximum(vertical + lags, 0.0)
    level, vertical, delay = _best(compare, around, np.maximum(delay + delays, transport))
    lag = jnp.array([level, level, vertical], jnp.float32)
    left = flown(rest, others, drone) - jax.jit(believed)(rest, others, drone, lag, jnp.float32(delay))
    error = float(np.quantile(np.abs(np.asarray(left)), 0.99))
    return Effective(level_lag=round(level, 3), vertical_lag=round(vertical, 3), delay=round(delay, 3), error=error)


def outside_of_traces(work: Callable[[], Effective]) -> Effective:
    """``work()``, which computes numbers, also while this thread traces a function, where nothing is computed.

    Parameters are built wherever they are needed, compiled flights included. Traces belong to threads.
    """
    with ThreadPoolExecutor(1) as other:
        return other.submit(work).result()


def fit_queue(transport: float, time_step: float) -> int:
    """How many commands the queue of a drone must hold while it is fitted."""
    return int((transport + COARSE * (DELAYS + 1)) / time_step) + 2


def _steps(time_step: float) -> Float[np.ndarray, "f t 3"]:
    """Commands from hover: each way and size held, then reversed [m/s^2]."""
    held = max(1, round(HELD / time_step))
    ways = np.array([size * np.array(way) for size in SIZES for way in WAYS], np.float32)
    return np.concatenate([np.repeat(ways[:, None], held, 1), np.repeat(-ways[:, None], held, 1)], axis=1)


def _held_out(time_step: float) -> Float[np.ndarray, "f t 3"]:
    """Random commands, each held for a random number of periods [m/s^2]."""
    count, steps, _ = _steps(time_step).shape
    draw = np.random.default_rng(0)
    flights = [
        np.repeat(draw.uniform(-4.0, 4.0, (steps, 3)), draw.integers(1, LONGEST_HOLD, steps), axis=0)[:steps]
        for _ in range(count)
    ]
    return np.array(flights, np.float32)


def _make_flown(step: Step) -> Callable[[DroneState, Array, DroneParams], Float[Array, "f t 3"]]:
    """Function (first state, commands, drone) -> velocities after each command [m/s]."""

    def flown(rest: DroneState, flights: Float[Array, "f t 3"], drone: DroneParams) -> Float[Array, "f t 3"]:
        def one(state: DroneState, command: Vector) -> tuple[DroneState, Vector]:
            state = step(state, command, drone)
            return state, state.velocity

        return jax.vmap(lambda commands: jax.lax.scan(one, rest, commands)[1])(flights)

    return flown


def _make_believed(time_step: float) -> Callable[..., Float[Array, "f t 3"]]:
    """Function (first state, commands, drone, lag, delay [s]) -> velocities that a double integrator reaches [m/s]."""
    flown = _make_flown(lambda state, command, params: predicted(state, command, params, time_step))

    def believed(rest: DroneState, flights: Array, drone: DroneParams, lag: Array, delay: Scalar) -> Array:
        return flown(rest.replace(body=None), flights, drone.replace(lag_time=lag, delay=delay, airframe=None))

    return believed


def _make_differences(
    rest: DroneState, flights: Array, true: Array, drone: DroneParams, time_step: float
) -> Callable[[Scalar, Scalar], Vector]:
    """Function (lag, delay) [s] -> mean squared difference in velocity along each axis."""
    believed = _make_believed(time_step)
    return lambda lag, delay: jnp.mean((believed(rest, flights, drone, lag, delay) - true) ** 2, axis=(0, 1))


def _best(
    compare: Callable[[Array, Array], Array], lags: tuple[np.ndarray, np.ndarray], delays: np.ndarray
) -> tuple[float, float, float]:
    """Level lag, vertical lag and delay of least difference; ``compare`` takes pairs of lag and delay."""

    def table(grid: np.ndarray) -> np.ndarray:
        lag, delay = np.meshgrid(grid, delays, indexing="ij")
        found = compare(jnp.asarray(lag.ravel(), jnp.float32), jnp.asarray(delay.ravel(), jnp.float32))
        return np.asarray(found).reshape(*lag.shape, 3)

    level, vertical = table(lags[0])[..., :2].sum(-1), table(lags[1])[..., 2]
    chosen = int(np.argmin(level.min(0) + vertical.min(0)))
    return (
        float(lags[0][np.argmin(level[:, chosen])]),
        float(lags[1][np.argmin(vertical[:, chosen])]),
        float(delays[chosen]),
    )
