"""Samplers of states between surfaces: equidistant from two surfaces (ridges of the soft minimum), and in corridors."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array

from drone_cbf.arrays import Scalar, Vector, unit
from drone_cbf.barrier.samples import MotionSampler, bisect, critical_speed, top_speed
from drone_cbf.barrier.spots import SPOT, beside_an_obstacle
from drone_cbf.config import SystemConfig
from drone_cbf.draws import between, index_by_weight, standard_normal, uniform_draws
from drone_cbf.physics.motion import Motion, acting_at
from drone_cbf.physics.obstacles import Obstacles, nearest_surface_points, surface_distances
from drone_cbf.scenes.scene import Scene

RIDGE = 0.05  # Largest difference of the two distances in ``gap`` [m]: about the width of the soft minimum's ridge
HEADING_SPREAD = 0.05
"""Standard deviation of the heading out of the plane in which both surfaces are approached equally [rad]."""
CHOICE_DISTANCE = 0.4  # The second surface is chosen with odds that fall by a factor e over this distance [m]
SAME_SIDE_PENALTY = 20.0
"""Log-odds against a second surface on the same side as the nearest: chosen only if there is no other."""
CANDIDATES = 6  # Directions tried for a corridor; the one along most surfaces is used
VIEW = 3.0  # Length over which a corridor is examined [m]
WIDTH = 1.2  # Surfaces within this distance of the line of flight count as beside it [m]


@struct.dataclass
class Tie:
    """A point equidistant from its two nearest surfaces."""

    position: Vector  # [m]
    distance: Scalar  # To both surfaces [m]
    first: Vector  # Unit normal from one surface to the point
    second: Vector  # The same from the other

    @property
    def across(self) -> Vector:
        """Unit vector from the first surface to the second; along it one distance grows and the other shrinks."""
        return unit(self.first - self.second)


def find_tie(obstacles: Obstacles, place: Vector, draw: Scalar) -> Tie:
    """The tie on the line from ``place`` to a random other surface, near ones preferred, opposite to the nearest.

    ``draw``, uniform in [0, 1), selects the surface. Along the line the distance to the nearest surface grows beyond
    that of another one; bisection finds where they are equal. With a single obstacle it is a point on the line to it.
    """
    distances, points = surface_distances(obstacles, place), nearest_surface_points(obstacles, place)
    nearest = jnp.argmin(distances)
    others = jnp.arange(distances.shape[0]) != nearest
    outward = normals(obstacles, place)[nearest]
    opposite = unit(points - place) @ outward > 0.0
    from_nearest = jax.vmap(lambda point: surface_distances(obstacles, point)[nearest])(points)
    reachable = obstacles.active & others & (from_nearest > 0.0)
    odds = -distances / CHOICE_DISTANCE - jnp.where(opposite, 0.0, SAME_SIDE_PENALTY)
    odds = jnp.where(reachable, odds, -jnp.inf)
    most = jnp.max(odds, initial=jnp.finfo(jnp.float32).min)
    chosen = index_by_weight(draw, jnp.exp(odds - most))
    way = points[jnp.where(jnp.any(reachable), chosen, nearest)] - place

    def passed(fraction: Scalar) -> Array:
        there = surface_distances(obstacles, place + fraction * way)
        return there[nearest] > jnp.min(jnp.where(others, there, jnp.inf))

    position = place + bisect(passed, 1.0) * way
    there, away = surface_distances(obstacles, position), normals(obstacles, position)
    other = jnp.argmin(jnp.where(others, there, jnp.inf))
    return Tie(position=position, distance=there[nearest], first=away[nearest], second=away[other])


def normals(obstacles: Obstacles, position: Vector) -> Array:
    """Unit normal of each surface at its point nearest to ``position``, (m, 3)."""
    side = jnp.where(surface_distances(obstacles, position) < 0.0, -1.0, 1.0)
    return side[:, None] * unit(position - nearest_surface_points(obstacles, position))


def make_gap_sampler(system: SystemConfig) -> MotionSampler:
    """Stratum ``gap``: the two nearest surfaces equidistant up to :data:`RIDGE` and approached equally."""
    cruise = top_speed(system)

    def sample(scene: Scene, key: jax.Array) -> Motion:
        draw = uniform_draws(key, **SPOT, other=(), off=(), wander=(3,), aim=(), astray=(), speed=(), near=(), kind=())
        tie = find_tie(scene.obstacles, beside_an_obstacle(scene, draw, system), draw["other"])
        across = tie.across
        position = tie.position + across * between(draw["off"], -0.5 * RIDGE, 0.5 * RIDGE)
        towards = -unit(tie.first + tie.second)
        wander = standard_normal(draw["wander"])
        wander = wander - jnp.dot(wander, across) * across
        heading = unit(wander + 2.0 * draw["aim"] * towards)
        heading = unit(heading + HEADING_SPREAD * standard_normal(draw["astray"]) * across)
        speed = cruise * draw["speed"] ** 1.5
        cosine = jnp.maximum(-jnp.dot(heading, tie.first), 0.05)
        critical = critical_speed(tie.distance, system) / cosine * between(draw["near"], 0.8, 1.2)
        speed = jnp.where(draw["kind"] < 0.25, speed, jnp.minimum(critical, cruise))
        return acting_at(position, speed * heading)

    return sample


def make_corridor_sampler(system: SystemConfig) -> MotionSampler:
    """Stratum ``corridor``: the line of flight passes between two surfaces ahead (a tie), along many others."""
    ahead = jnp.linspace(0.0, VIEW, 10)

    def crowding(obstacles: Obstacles, position: Vector, heading: Vector) -> Array:
        """Number of surfaces beside the line of flight; 0 if the line hits one."""
        line = position + ahead[:, None] * heading
        distances = jnp.min(jax.vmap(lambda point: surface_distances(obstacles, point))(line), axis=0)
        free = jnp.min(distances) > system.physics.drone_radius
        return jnp.where(free, jnp.sum(distances < WIDTH), 0)

    def sample(scene: Scene, key: jax.Array) -> Motion:
        draw = uniform_draws(key, **SPOT, other=(), wander=(CANDIDATES, 3), before=(CANDIDATES,), speed=())
        tie = find_tie(scene.obstacles, beside_an_obstacle(scene, draw, system), draw["other"])
        # Mostly horizontal: the trunks of a forest are beside level flight only.
        wander = standard_normal(draw["wander"]) * jnp.array([1.0, 1.0, 0.4])
        headings = unit(wander - (wander @ tie.across)[:, None] * tie.across)
        before = between(draw["before"], 0.1, 0.5 * VIEW)
        positions = tie.position - before[:, None] * headings
        crowd = jax.vmap(crowding, in_axes=(None, 0, 0))(scene.obstacles, positions, headings)
        best = jnp.argmax(crowd)
        speed = top_speed(system) * between(draw["speed"], 0.1, 1.0)
        return acting_at(positions[best], speed * headings[best])

    return sample
