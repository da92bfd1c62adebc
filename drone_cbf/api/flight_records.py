"""Simulated flights as the plain numpy records that figures are drawn from."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from drone_cbf.config import SystemConfig
from drone_cbf.flights import Flown
from drone_cbf.perception.readings import Reading
from drone_cbf.reporting.figures.flights import Figure, flights_from_above
from drone_cbf.reporting.obstacles import Boxes, Capsules, Cylinders, Obstacles
from drone_cbf.reporting.records import Flight
from drone_cbf.rollout import Trajectory, make_rereading
from drone_cbf.scenes.scene import Scene

DECIDED = ("command", "nominal", "barrier", "slack", "status")
MOST_SEEN = 12  # Flights whose readings are recorded: each takes megabytes, and a page shows few


def draw_flights(
    system: SystemConfig, scenes: Sequence[Scene], flown: Flown, title: str = "", *, filtered: bool = True
) -> Figure:
    """The flights of :func:`drone_cbf.fly` seen from above, one panel per scene, coloured by speed.

    Save it with ``figure.savefig("flights.png")``. Raises ValueError for more than 12 different scenes.
    """
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *scenes)
    return flights_from_above(flights_of(stacked, flown, system, "scene", noise=0.0, filtered=filtered), title)


def flights_of(
    scenes: Scene,
    flown: Flown,
    system: SystemConfig,
    names: Sequence[str] | str,
    noise: ArrayLike,
    filtered: bool = True,
    keys: jax.Array | None = None,
) -> list[Flight]:
    """Flights with a leading axis, one by one.

    ``names`` and ``noise`` [m]: one or one per flight; a number is added to a single name. With the flights' ``keys``,
    what a range sensor read is computed again and recorded for the first :data:`MOST_SEEN`."""
    host = jax.tree.map(np.asarray, (scenes, flown.trajectories, flown.metrics, flown.clearance))
    noises = np.broadcast_to(noise, len(host[-1])).tolist()
    seen = _read_again(system, scenes, flown, noises, keys)
    found = []
    for index, level in enumerate(noises):
        scene, path, metrics, clearance = jax.tree.map(lambda x, index=index: x[index], host)
        found.append(
            Flight(
                name=f"{names} {index + 1}" if isinstance(names, str) else names[index],
                time_step=system.physics.time_step,
                position=np.concatenate([path.states.position, path.last.position[None]]),
                velocity=np.concatenate([path.states.velocity, path.last.velocity[None]]),
                **{field: getattr(path.decisions, field) for field in DECIDED},
                analytic_barrier=metrics.true_barrier,
                clearance=clearance,
                goal=scene.goal,
                obstacles=obstacles_of(scene),
                drone_radius=system.physics.drone_radius,
                reached=bool(metrics.success),
                collided=bool(metrics.collision),
                noise=level,
                filtered=filtered,
                **(_body(path) | seen.get(index, {})),
            )
        )
    return found


def _body(path: Trajectory) -> dict[str, np.ndarray]:
    """Attitude and rates at every state, of a model that has them."""
    before, last = path.states.body, path.last.body
    names = [name for name in ("attitude", "rates") if hasattr(before, name)]
    return {name: np.concatenate([getattr(before, name), getattr(last, name)[None]]) for name in names}


def has_points(system: SystemConfig) -> bool:
    """Whether the sensor hits points that can be shown."""
    return system.sensor.kind != "surfaces"


def _read_again(
    system: SystemConfig, scenes: Scene, flown: Flown, noises: Sequence[float], keys: jax.Array | None
) -> dict[int, dict[str, np.ndarray]]:
    """``seen`` and ``seen_mask`` of the first flights, by row; none without keys, or where nothing is hit by rays."""
    if keys is None or not has_points(system):
        return {}
    again, found = _rereading(system), {}
    for index, noise in enumerate(noises[:MOST_SEEN]):
        scene, states = jax.tree.map(lambda x, index=index: x[index], (scenes, flown.trajectories.states))
        reading = again(states, scene, jnp.float32(noise), keys[index])
        found[index] = {"seen": np.asarray(reading.points), "seen_mask": np.asarray(reading.hit)}
    return found


@functools.cache
def _rereading(system: SystemConfig) -> Callable[..., Reading]:
    return jax.jit(make_rereading(system))


def obstacles_of(scene: Scene) -> Obstacles:
    """The obstacles of one scene, every shape, as they are at time zero."""
    solids = jax.tree.map(np.asarray, scene.obstacles)
    # A record of the simulation and its namesake of the figures have the same fields.
    kinds = {"capsules": Capsules, "boxes": Boxes, "cylinders": Cylinders}
    shapes = {name: kind(**vars(getattr(solids, name))) for name, kind in kinds.items()}
    heights = solids.ground.height[solids.ground.active].tolist()
    return Obstacles(**shapes, ground=max(heights, default=None))
