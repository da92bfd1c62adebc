"""Strata of training states for the barrier, by name.

``open``: near surfaces (:mod:`drone_cbf.barrier.samples`); ``boundary``: |h| below :data:`BAND`; ``gap`` and
``corridor``: between surfaces (:mod:`drone_cbf.barrier.gaps`); ``high_speed``: fast, towards or past surfaces.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from drone_cbf.arrays import Scalar, unit
from drone_cbf.barrier.analytic import make_analytic_barrier
from drone_cbf.barrier.gaps import make_corridor_sampler, make_gap_sampler
from drone_cbf.barrier.samples import (
    LessonSampler,
    MotionSampler,
    bisect,
    lesson_sampler,
    make_open_sampler,
    top_speed,
)
from drone_cbf.barrier.spots import SPOT, beside_an_obstacle, random_spot
from drone_cbf.config import StratumName, SystemConfig
from drone_cbf.draws import between, standard_normal, uniform_draws
from drone_cbf.perception.truth import true_graph
from drone_cbf.physics.motion import Motion, acting_at
from drone_cbf.physics.obstacles import nearest_surface_points, surface_distances
from drone_cbf.scenes.scene import Scene

BAND = 0.15  # Largest |h| of the states of ``boundary`` [m]
SLOWEST = 0.6  # Smallest speed of ``high_speed``, as a multiple of ``objective.max_speed``


def make_stratum_sampler(name: StratumName, system: SystemConfig) -> LessonSampler:
    """Sampler of lessons of stratum ``name``."""
    return lesson_sampler(make_motion_sampler(name, system), system)


def make_motion_sampler(name: StratumName, system: SystemConfig) -> MotionSampler:
    """Sampler of positions and velocities of stratum ``name``."""
    makers: dict[StratumName, Callable[[SystemConfig], MotionSampler]] = {
        "open": make_open_sampler,
        "boundary": make_boundary_sampler,
        "gap": make_gap_sampler,
        "corridor": make_corridor_sampler,
        "high_speed": make_high_speed_sampler,
    }
    return makers[name](system)


def make_boundary_sampler(system: SystemConfig) -> MotionSampler:
    """Stratum ``boundary``: states whose analytic h is uniform in +-:data:`BAND`, found by bisection on a path.

    Along it h is continuous: from a surface at top speed (h < 0) back to a random place, there down to rest, and at
    rest to the scene's start, which is clear (h > 0).
    """
    level, cruise = make_level(system), top_speed(system)

    def sample(scene: Scene, key: jax.Array) -> Motion:
        draw = uniform_draws(key, **SPOT, aside=(3,), aim=(), level=())
        place = beside_an_obstacle(scene, draw, system)
        nearest = jnp.argmin(surface_distances(scene.obstacles, place))
        surface = nearest_surface_points(scene.obstacles, place)[nearest]
        towards = unit(surface - place)
        heading = unit(standard_normal(draw["aside"]) + 2.0 * draw["aim"] * towards)
        target = between(draw["level"], -BAND, BAND)

        def path(x: Scalar) -> Motion:
            backing, slowing, leaving = (jnp.clip(x - leg, 0.0, 1.0) for leg in range(3))
            position = surface + backing * (place - surface) + leaving * (scene.start - place)
            return acting_at(position, (1.0 - slowing) * cruise * heading)

        return path(bisect(lambda x: level(scene, path(x)) > target, 3.0))

    return sample


def make_high_speed_sampler(system: SystemConfig) -> MotionSampler:
    """Stratum ``high_speed``: 0.6 to 1.3 times ``objective.max_speed``, half towards a surface, half past it.

    The surface is at about the braking distance: h is near zero unless another surface is nearer.
    """
    barrier, cruise = system.barrier, system.objective.max_speed
    safe_radius = system.physics.drone_radius + barrier.safety_margin

    def sample(scene: Scene, key: jax.Array) -> Motion:
        draw = uniform_draws(key, **SPOT, speed=(), side=(3,), kind=(), cosine=(), room=())
        spot = random_spot(scene, draw)
        speed = between(draw["speed"], SLOWEST * cruise, top_speed(system))
        towards, past = between(draw["cosine"], 0.6, 1.0), between(draw["cosine"], -0.2, 0.3)
        cosine = jnp.where(draw["kind"] < 0.5, towards, past)
        side = standard_normal(draw["side"])
        side = unit(side - jnp.dot(side, spot.outward) * spot.outward)
        heading = unit(jnp.sqrt(1.0 - cosine**2) * side - cosine * spot.outward)
        closing = speed * jnp.maximum(cosine, 0.0)
        room = system.sensor.length * between(draw["room"], -0.3, 0.6)
        distance = safe_radius + barrier.reaction_time * closing + closing**2 / (2.0 * barrier.braking) + room
        distance = jnp.clip(distance, 0.5 * system.physics.drone_radius, 0.9 * system.sensor.range)
        return acting_at(spot.at(distance), speed * heading)

    return sample


def make_level(system: SystemConfig) -> Callable[[Scene, Motion], Scalar]:
    """Function (scene, motion) -> h of the analytic barrier over all surfaces in sight [m]; -1 inside an obstacle.

    Over the graph's fewer nodes h is not continuous and costs a ranking; inside, a graph sees a surface from behind.
    """
    barrier = make_analytic_barrier(system)

    def level(scene: Scene, motion: Motion) -> Scalar:
        inside = jnp.min(surface_distances(scene.obstacles, motion.position)) < 0.0
        return jnp.where(inside, -1.0, barrier(true_graph(motion, scene, None, system)))

    return level
