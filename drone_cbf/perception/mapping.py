"""From readings to the graph: what is remembered between readings, and how the graph is built from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float

from drone_cbf.arrays import Scalar, Vector, safe_norm
from drone_cbf.config import SystemConfig
from drone_cbf.perception.approach import RangeHistory, empty_history, make_approach, remember
from drone_cbf.perception.averaging import averaged
from drone_cbf.perception.estimation import Estimate, first_estimate, position_spread
from drone_cbf.perception.frontier import Views, make_remembering, no_views, seen_ahead
from drone_cbf.perception.graphs import Graph, graph_at
from drone_cbf.perception.point_graph import make_node_choice, make_point_graph
from drone_cbf.perception.point_map import PointMap, empty_point_map, make_gathering, nearest_in_cells, way_blocked
from drone_cbf.perception.readings import OwnMotion, Reading
from drone_cbf.perception.sensor_kinds import make_sensor
from drone_cbf.perception.sensors import Surfaces
from drone_cbf.perception.surface_map import (
    SurfaceMap,
    empty_map,
    fitted_surfaces,
    judged_surfaces,
    make_surface_update,
    of_expected_radius,
    raw_surfaces,
)
from drone_cbf.physics.belief import acting_motion
from drone_cbf.physics.drone import DroneParams, DroneState
from drone_cbf.physics.dynamics import make_dynamics
from drone_cbf.physics.heading import heading_of
from drone_cbf.physics.motion import Motion
from drone_cbf.scenes.scene import Scene

SEEN = "seen"
"""Name of what a backward pass keeps instead of computing it again (``jax.checkpoint``): without gradient, it is needed
for those of other things, and reading a sensor costs more than the rest of a step."""


@struct.dataclass
class PointMemory:
    """What is remembered of unlabelled points."""

    points: PointMap
    ranges: RangeHistory

    def moved(self, offset: Vector) -> PointMemory:
        """The same with ``offset`` [m] added to every position in it."""
        points, ranges = self.points, self.ranges
        return PointMemory(
            points=points.replace(points=points.points + offset), ranges=ranges.replace(place=ranges.place + offset)
        )


@dataclass(frozen=True)
class Mapper:
    """How readings become graphs, for one drone."""

    start: Callable[[int], Any]
    """Number of points of a reading -> memory before the first one."""
    update: Callable[[Any, Reading, Estimate, Motion, Vector, DroneParams], tuple[Any, Graph]]
    """(memory, reading, estimate now, motion where a command sent now acts, goal, drone) -> (memory, graph there)."""


def make_surface_mapper(system: SystemConfig) -> Mapper:
    """For labelled points: surfaces fitted over time, or the points as read (``sensor.surfaces``)."""
    sensor, kind, flat = system.sensor, system.sensor.surfaces, not system.barrier.passing
    track = make_surface_update(sensor, system.physics.time_step)

    def update(belief: SurfaceMap, reading: Reading, estimate: Estimate, motion: Motion, goal: Vector, drone):
        surfaces = Surfaces(points=reading.points, velocity=reading.velocity, visible=reading.hit)
        own_spread = position_spread(estimate, jnp.max(drone.delay + drone.lag_time))
        if kind == "raw":
            surfaces = of_expected_radius(raw_surfaces(surfaces, reading.noise, own_spread), sensor)
        else:
            belief, place = track(belief, surfaces, motion.position, reading.noise), motion.position
            surfaces = (
                fitted_surfaces(belief, surfaces, place, own_spread)
                if kind == "tracked"
                else judged_surfaces(belief, surfaces, place, reading.noise, own_spread)
            )
        surfaces = surfaces.replace(radius=None, upright=None) if flat else surfaces
        return belief, graph_at(motion, surfaces, goal, drone, sensor)

    return Mapper(start=partial(empty_map, judged=kind == "judged"), update=update)


def everywhere(offset: Float[Array, "n 3"], reading: Reading) -> Bool[Array, "n"]:
    """The field of view of points whose sensor is not known: all directions."""
    return jnp.ones(offset.shape[0], bool)


def make_point_mapper(system: SystemConfig) -> Mapper:
    """For unlabelled points: the nearest one per direction, remembered for a while."""
    sensor, dt, in_view = system.sensor, system.physics.time_step, make_sensor(system).in_view or everywhere
    gather, approach = make_gathering(sensor, dt, in_view), make_approach(sensor, dt)
    choose, build = make_node_choice(system), make_point_graph(system)
    radius = system.physics.drone_radius
    safe_radius = radius + system.barrier.safety_margin

    def update(belief: PointMemory, reading: Reading, estimate: Estimate, motion: Motion, goal: Vector, drone):
        position = jax.lax.stop_gradient(estimate.drone.position)
        gathered = gather(belief.points, reading, position)
        kept = nearest_in_cells(gathered, motion.position)
        ranges, moving = remember(belief.ranges, reading, position, in_view), gathered
        if sensor.approach_time:
            ranges, speeds = approach(ranges, gathered)
            moving = gathered.replace(velocity=gathered.velocity + speeds)
        nodes = choose(moving, motion, drone.delay)
        nodes = nodes.replace(points=averaged(nodes.points, ranges))
        blocked = way_blocked(gathered, position, motion.position, radius, safe_radius)
        nodes, blocked, belief = checkpoint_name((nodes, blocked, PointMemory(kept, ranges)), SEEN)
        return belief, build(motion, nodes, belief.points, goal, drone).replace(blocked=blocked)

    def start(points: int) -> PointMemory:
        return PointMemory(points=empty_point_map(), ranges=empty_history(sensor, dt))

    return Mapper(start=start, update=update)


@struct.dataclass
class DepthMap:
    """What is remembered of a depth camera."""

    points: PointMemory
    views: Views

    def moved(self, offset: Vector) -> DepthMap:
        """The same with ``offset`` [m] added to every position in it."""
        views = self.views.replace(position=self.views.position + offset)
        return DepthMap(points=self.points.moved(offset), views=views)


BEYOND, SOON = 1.5, 0.5
"""How much farther than it needs to stop the way is looked at: this far [m] plus the way of so long [s]."""


def make_depth_mapper(system: SystemConfig) -> Mapper:
    """For a depth camera: its points as for any range sensor, and how far the way ahead was seen."""
    points, look, barrier = make_point_mapper(system), make_remembering(system), system.barrier
    radius = system.physics.drone_radius + barrier.safety_margin

    def update(belief: DepthMap, reading: Reading, estimate: Estimate, motion: Motion, goal: Vector, drone):
        known, graph = points.update(belief.points, reading, estimate, motion, goal, drone)
        views = look(belief.views, reading, estimate.drone.position)
        speed = safe_norm(motion.velocity)
        reach = radius + BEYOND + (barrier.reaction_time + SOON) * speed + speed**2 / (2.0 * barrier.braking)
        frontier = seen_ahead(views, motion.position, motion.velocity, reach)
        seen: dict[str, Any] = {"frontier": frontier, "image": reading.image, "yaw": reading.own.yaw}
        return DepthMap(points=known, views=views), graph.replace(**checkpoint_name(seen, SEEN))

    return Mapper(start=lambda slots: DepthMap(points=points.start(slots), views=no_views()), update=update)


MAPPERS: Mapping[str, Callable[[SystemConfig], Mapper]] = {
    "surfaces": make_surface_mapper,
    "lidar": make_point_mapper,
    "depth": make_depth_mapper,
}
"""By ``sensor.kind``."""


def make_mapper(system: SystemConfig) -> Mapper:
    """The mapper for the sensor of ``system``."""
    return MAPPERS[system.sensor.kind](system)


SCANS = 4  # Readings from the same place that make up the map of a sampled state
LOOKING = 0.3  # Standard deviation of the angle between the sampled heading and the velocity [rad]


def make_still_view(system: SystemConfig) -> Callable[[DroneState, Scene, Scalar, jax.Array], tuple[Graph, Motion]]:
    """Function (true state, scene at time zero, noise [m, m/s], key) -> (graph, motion where a command sent now acts).

    What a controller with an exact estimate sees that has read its sensor :data:`SCANS` times from where it is.
    """
    sensor, mapper, model = make_sensor(system), make_mapper(system), make_dynamics(system.physics).params()
    dt = system.physics.time_step

    def view(state: DroneState, scene: Scene, noise: Scalar, key: jax.Array) -> tuple[Graph, Motion]:
        slots = scene.obstacles.active.shape[0]
        if sensor.directed:
            aside = LOOKING * jax.random.normal(jax.random.fold_in(key, SCANS))
            state = state.replace(yaw=heading_of(state.velocity) + aside)
        motion = acting_motion(state, model, dt)
        own = OwnMotion(position=state.position, velocity=state.velocity)
        estimate = first_estimate(own, state, noise, system.sensor)

        def scan(belief: Any, index: Array) -> tuple[Any, Graph]:
            errors = sensor.draw_errors(noise, slots, jax.random.fold_in(key, index))
            step = jax.random.randint(key, (), 0, 1000) + index
            reading = sensor.read(scene.obstacles, state, motion.position, step, errors, noise)
            return mapper.update(belief, reading, estimate, motion, scene.goal, model)

        _, graphs = jax.lax.scan(scan, mapper.start(slots), jnp.arange(SCANS))
        return jax.tree.map(lambda leaf: leaf[-1], graphs), motion

    return view
