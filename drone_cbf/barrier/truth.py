"""Privileged: the barrier of the true solids, and how it changes along the true motion."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from drone_cbf.arrays import Scalar, Vector, softplus, unit
from drone_cbf.barrier.analytic import (
    free_margin,
    make_analytic_barrier,
    passing_margin,
    passing_speed,
    soft_minimum,
    stopping_margin,
)
from drone_cbf.config import SystemConfig
from drone_cbf.perception.graphs import CLOSING_SHARPNESS
from drone_cbf.perception.truth import true_graph
from drone_cbf.physics.belief import acting_motion, driven
from drone_cbf.physics.drone import DroneState
from drone_cbf.physics.motion import Motion, moved
from drone_cbf.physics.obstacles import nearest_surface_points, rounding, surface_distances
from drone_cbf.scenes.scene import Scene, flown_drone

TrueBarrier = Callable[[Motion, Scene, Scalar | None], Scalar]
"""(motion, scene, time [s] or None for where the obstacles were drawn) -> h [m] of the solids themselves."""


def make_true_barrier(system: SystemConfig, temperature: Scalar | None = None) -> TrueBarrier:
    """The braking barrier with the signed distances and outward normals of the true solids.

    Where no solid contains the place, it is the analytic barrier on the graph of a perfect sensor; inside of one, where
    a graph sees the surface from behind, it stays negative. Other kinds (the baseline) are taken on the graph.
    """
    analytic = make_analytic_barrier(system, temperature)
    smoothing = system.barrier.temperature if temperature is None else temperature

    def on_graph(motion: Motion, scene: Scene, time: Scalar | None) -> Scalar:
        return analytic(true_graph(motion, scene, time, system))

    def barrier(motion: Motion, scene: Scene, time: Scalar | None) -> Scalar:
        obstacles = scene.obstacles if time is None else scene.obstacles.at(time)
        distance = surface_distances(obstacles, motion.position)
        away = motion.position - nearest_surface_points(obstacles, motion.position)
        outward = jnp.where(distance < 0.0, -1.0, 1.0)[:, None] * unit(away)
        closing = softplus(-jnp.sum(outward * (motion.velocity - obstacles.velocity), -1), CLOSING_SHARPNESS)
        margins = stopping_margin(distance, closing, system)
        if system.barrier.passing:
            radius, upright = rounding(obstacles, 0.5 * system.barrier.safety_margin)
            passing = passing_speed(outward, motion.velocity - obstacles.velocity, upright)
            margins = passing_margin(margins, distance, passing, radius, system)
        seen = obstacles.active & (distance < system.sensor.range)
        margins = jnp.where(seen, margins, system.sensor.range)
        return soft_minimum(margins, free_margin(motion.velocity, system), smoothing)

    return barrier if system.barrier.kind == "braking" else on_graph


def true_barrier_rate(
    barrier: TrueBarrier,
    state: DroneState,
    command: Vector,
    wind: Vector,
    scene: Scene,
    time: Scalar,
    system: SystemConfig,
) -> tuple[Scalar, Scalar]:
    """h [m] and dh/dt [m/s] of ``barrier`` where ``command`` begins to act, with the true geometry of the surfaces.

    That is the acting point (:func:`acting_motion`), a delay after ``time`` [s]. Differentiates along the motion
    q' = z, z' = u + drag (:func:`driven`) through the nearest points themselves, so curvature counts;
    independent of the flat-surface row that the filter uses. ``wind`` [m/s] is the true one at ``time``.
    """
    model = flown_drone(scene, system.physics).replace(wind=wind)
    motion = acting_motion(state, model, system.physics.time_step)
    acceleration = driven(motion, command, wind, model)

    def value(elapsed: Scalar) -> Scalar:
        return barrier(moved(motion, acceleration, elapsed), scene, time + model.delay + elapsed)

    return jax.jvp(value, (jnp.float32(0.0),), (jnp.float32(1.0),))
