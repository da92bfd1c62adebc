"""States between surfaces: on the ridges of the soft minimum, where two surfaces compete, and along rows of them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from drone_cbf.arrays import Scalar, Vector, unit
from drone_cbf.barrier.draws import PLACE_DRAWS, Draws, between, draw, drawn_place
from drone_cbf.barrier.roots import bisect
from drone_cbf.barrier.samples import MotionSampler, critical_speed, top_speed
from drone_cbf.config import SystemConfig
from drone_cbf.physics.obstacles import Obstacles, nearest_surface_points, surface_distances
from drone_cbf.physics.point_mass import Motion
from drone_cbf.physics.scenes import Scene

RIDGE = 0.05
"""Largest difference of the two distances in ``gap`` [m]: about as far as the soft minimum's ridge is round."""
ASTRAY = 0.05
"""Standard deviation of the heading out of the plane in which both surfaces are approached alike [rad]."""
REACH = 0.4
"""Surfaces to be between are chosen with odds that fall by e over this distance [m]."""
UNLIKELY = 20.0
"""Log-odds against a surface on the same side as the nearest: taken only where there is no other."""
CANDIDATES = 6
"""Directions tried for a corridor; the one along most surfaces is taken."""
VIEW = 3.0
"""Length of a corridor that is looked along [m]."""
WIDTH = 1.2
"""Surfaces within this of the line of flight count as beside it [m]."""


@struct.dataclass
class Tie:
    """A point as far from one surface as from another, and from every other one farther."""

    position: Vector
    """[m]."""
    distance: Scalar
    """To both surfaces [m]."""
    first: Vector
    """Unit normal from one surface to the point."""
    second: Vector
    """The same from the other."""

    @property
    def across(self) -> Vector:
        """Unit vector from the first surface to the second: in its direction one distance grows, the other shrinks."""
        return unit(self.first - self.second)


def find_tie(obstacles: Obstacles, place: Vector, even: Float[Array, "m"]) -> Tie:
    """The tie on the way from ``place`` to a random surface beyond, near ones preferred, opposite to the nearest.

    At ``place`` its nearest surface is nearest; where the way ends another one is. In between the distance to the one
    and the least distance to all others are equal, and bisection finds where. Where no surface is left to go to (a
    single obstacle) there is no tie, and the result is a point on the way to the surface. ``even``: numbers drawn evenly
    from [0, 1), one for each surface.
    """
    distances, points = surface_distances(obstacles, place), nearest_surface_points(obstacles, place)
    nearest = jnp.argmin(distances)
    others = jnp.arange(distances.shape[0]) != nearest
    outward = normals(obstacles, place)[nearest]
    opposite = unit(points - place) @ outward > 0.0
    from_nearest = jax.vmap(lambda point: surface_distances(obstacles, point)[nearest])(points)
    reachable = obstacles.active & others & (from_nearest > 0.0)
    odds = -distances / REACH - jnp.where(opposite, 0.0, UNLIKELY)
    luck = -jnp.log(-jnp.log(jnp.clip(even, 1e-6, 1.0 - 1e-6)))  # Gumbel: the greatest sum is a draw by the odds
    chosen = jnp.argmax(jnp.where(reachable, odds + luck, -jnp.inf))
    way = points[jnp.where(jnp.any(reachable), chosen, nearest)] - place

    def passed(fraction: Scalar) -> Array:
        there = surface_distances(obstacles, place + fraction * way)
        return there[nearest] > jnp.min(jnp.where(others, there, jnp.inf))

    position = place + bisect(passed, 1.0) * way
    there, away = surface_distances(obstacles, position), normals(obstacles, position)
    other = jnp.argmin(jnp.where(others, there, jnp.inf))
    return Tie(position=position, distance=there[nearest], first=away[nearest], second=away[other])


def _drawn_tie(obstacles: Obstacles, draws: Draws, own: int, system: SystemConfig) -> Tie:
    """From the first even numbers and the first normal row, and from the even numbers after the ``own`` of the stratum."""
    place = drawn_place(obstacles, draws.even[:PLACE_DRAWS], draws.normal[0], system)
    return find_tie(obstacles, place, draws.even[PLACE_DRAWS + own :])


def normals(obstacles: Obstacles, position: Vector) -> Array:
    """Unit normal of every surface at its point nearest to ``position``, (m, 3)."""
    side = jnp.where(surface_distances(obstacles, position) < 0.0, -1.0, 1.0)
    return side[:, None] * unit(position - nearest_surface_points(obstacles, position))


def make_gap_sampler(system: SystemConfig) -> MotionSampler:
    """Stratum ``gap``: the two nearest surfaces are equally far, but for :data:`RIDGE`, and approached alike.

    There both braking margins are equal, and the soft minimum has its ridge.
    """
    cruise = top_speed(system)

    def sample(scene: Scene, key: jax.Array) -> Motion:
        draws = draw(key, PLACE_DRAWS + 5 + scene.obstacles.active.shape[0], 3)
        tie = _drawn_tie(scene.obstacles, draws, 5, system)
        aside, bias, pace, excess, kind = draws.even[PLACE_DRAWS : PLACE_DRAWS + 5]
        across, wander = tie.across, draws.normal[1]
        heading = unit(wander - jnp.dot(wander, across) * across - 2.0 * bias * unit(tie.first + tie.second))
        heading = unit(heading + ASTRAY * draws.normal[2, 0] * across)
        cosine = jnp.maximum(-jnp.dot(heading, tie.first), 0.05)
        critical = critical_speed(tie.distance, system) / cosine * between(excess, 0.8, 1.2)
        speed = jnp.where(kind < 0.25, cruise * pace**1.5, jnp.minimum(critical, cruise))
        position = tie.position + across * between(aside, -0.5 * RIDGE, 0.5 * RIDGE)
        return Motion(position=position, velocity=speed * heading, thrust=jnp.zeros(3))

    return sample


def make_corridor_sampler(system: SystemConfig) -> MotionSampler:
    """Stratum ``corridor``: the line of flight passes between two surfaces ahead, and along as many more as can be.

    Both surfaces of a tie lie on different sides of any line through it that is at right angles to ``across``.
    """
    ahead = jnp.linspace(0.0, VIEW, 10)

    def crowding(obstacles: Obstacles, position: Vector, heading: Vector) -> Array:
        """Surfaces beside the line of flight; a line that runs into one counts as none."""
        line = position + ahead[:, None] * heading
        distances = jnp.min(jax.vmap(lambda point: surface_distances(obstacles, point))(line), axis=0)
        free = jnp.min(distances) > system.physics.drone_radius
        return jnp.where(free, jnp.sum(distances < WIDTH), 0)

    def sample(scene: Scene, key: jax.Array) -> Motion:
        own = CANDIDATES + 1
        draws = draw(key, PLACE_DRAWS + own + scene.obstacles.active.shape[0], 1 + CANDIDATES)
        tie = _drawn_tie(scene.obstacles, draws, own, system)
        # Flat, mostly: the surfaces of a forest are beside level flight only.
        wander = draws.normal[1:] * jnp.array([1.0, 1.0, 0.4])
        headings = unit(wander - (wander @ tie.across)[:, None] * tie.across)
        before = between(draws.even[PLACE_DRAWS : PLACE_DRAWS + CANDIDATES], 0.1, 0.5 * VIEW)
        positions = tie.position - before[:, None] * headings
        crowd = jax.vmap(crowding, in_axes=(None, 0, 0))(scene.obstacles, positions, headings)
        best = jnp.argmax(crowd)
        speed = top_speed(system) * between(draws.even[PLACE_DRAWS + CANDIDATES], 0.1, 1.0)
        return Motion(position=positions[best], velocity=speed * headings[best], thrust=jnp.zeros(3))

    return sample
