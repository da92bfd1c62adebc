"""The world of one flight, and what can be done to any: displace or thin out its obstacles, fly another drone in it."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from drone_cbf.arrays import Scalar, Vector
from drone_cbf.config import PhysicsConfig
from drone_cbf.draws import between, standard_normal, uniform_draws
from drone_cbf.physics.drone import DroneParams
from drone_cbf.physics.dynamics import make_dynamics
from drone_cbf.physics.obstacles import Obstacles, surface_distances
from drone_cbf.physics.randomisation import WIND
from drone_cbf.physics.solids.boxes import Boxes
from drone_cbf.physics.solids.capsules import Capsules
from drone_cbf.physics.solids.cylinders import Cylinders
from drone_cbf.scenes.rotations import about_vertical

WALL = 1.0  # Boxes with a half side of this length [m] or more are parts of walls


@struct.dataclass
class Scene:
    """World of one flight; constant during it. In the world of a swarm, ``n`` drones fly at once, each with its own
    start and goal; the rest is common to all."""

    obstacles: Obstacles
    start: Vector | Float[Array, "n 3"]  # [m]
    start_velocity: Vector | Float[Array, "n 3"]  # [m/s]
    goal: Vector | Float[Array, "n 3"]  # [m]
    wind: Vector  # Mean wind [m/s]
    gust: Vector  # Standard deviation of gusts [m/s]
    drone: DroneParams | None = None
    """The drone that flies; None for the configured one. The controller always assumes the configured one."""
    cruise: Scalar | None = None
    """How fast the drone is told to fly [m/s]; None for ``objective.max_speed``."""


def scene_count(flights: int, drones: int) -> int:
    """Scenes of ``drones`` at once that give about ``flights`` flights; at least one."""
    return max(1, flights // drones)


def per_drone(scenes: Scene) -> Scene:
    """One scene for each drone, in order, of ``scenes`` with a leading axis; those of single drones as they are."""
    if scenes.start.ndim == 2:
        return scenes
    count = scenes.start.shape[1]
    own = {name: getattr(scenes, name).reshape(-1, 3) for name in ("start", "start_velocity", "goal")}
    return jax.tree.map(lambda leaf: leaf.repeat(count, axis=0), scenes).replace(**own)


def flown_drone(scene: Scene, config: PhysicsConfig) -> DroneParams:
    """The drone that flies ``scene``, in still air."""
    return make_dynamics(config).params() if scene.drone is None else scene.drone


def with_random_drone(scene: Scene, config: PhysicsConfig, key: jax.Array) -> Scene:
    """The scene with a drone drawn around the configured one, and stronger wind."""
    dynamics = make_dynamics(config)
    drone = dynamics.randomise(dynamics.params(), key)
    return scene.replace(drone=drone, wind=WIND * scene.wind, gust=WIND * scene.gust)


def with_nominal_drone(scene: Scene, config: PhysicsConfig) -> Scene:
    """The scene with the configured drone filled in, so that its shapes equal those with a random one."""
    return scene.replace(drone=make_dynamics(config).params())


def perturb(scene: Scene, amount: Array | float, clearance: float, key: jax.Array, *, moving: bool) -> Scene:
    """The scene with displaced obstacles and a random start velocity (``augment`` of a curriculum).

    ``amount`` in [0, 1] scales displacements of up to 0.5 m per axis and start velocities of 1 m/s standard deviation.
    Boxes with a half side of :data:`WALL` stay: they are parts of walls with openings. ``moving``: whether there are
    obstacles that move; these stay too, since their paths keep clear of start and goal.
    """
    capsules, boxes, beams = scene.obstacles.capsules, scene.obstacles.boxes, scene.obstacles.cylinders
    shapes = {"capsules": capsules.centre.shape, "velocity": scene.start.shape, "boxes": boxes.centre.shape}
    draw = uniform_draws(key, **shapes, beams=beams.centre.shape)

    def displaced(name: str, solids: Capsules | Boxes | Cylinders, free: Array | bool = True) -> Array:
        shift = 0.5 * amount * between(draw[name], -1.0, 1.0)
        free = free & jnp.all(solids.velocity == 0.0, axis=-1, keepdims=True) if moving else free
        return solids.centre + (shift if free is True else jnp.where(free, shift, 0.0))

    small = jnp.max(boxes.half_size, axis=-1, keepdims=True, initial=0.0) < WALL
    obstacles = scene.obstacles.replace(
        capsules=capsules.replace(centre=displaced("capsules", capsules)),
        boxes=boxes.replace(centre=displaced("boxes", boxes, small)),
        cylinders=beams.replace(centre=displaced("beams", beams)),
    )
    velocity = amount * standard_normal(draw["velocity"])
    return cleared(scene.replace(obstacles=obstacles, start_velocity=velocity), clearance)


def thinned(scene: Scene, density: Array | float, key: jax.Array) -> Scene:
    """The scene in which each obstacle but the ground remains with probability ``density`` (of a curriculum)."""
    solids = scene.obstacles.active.shape[0] - scene.obstacles.ground.active.shape[0]
    kept = jax.random.uniform(key, (solids,), jnp.float32) < density
    ground = jnp.ones_like(scene.obstacles.ground.active)
    return scene.replace(obstacles=scene.obstacles.only(jnp.concatenate([kept, ground])))


def cleared(scene: Scene, clearance: float) -> Scene:
    """The scene without obstacles nearer than ``clearance`` [m] to its start or goal, or to that of any drone."""

    def near(place: Array) -> Array:
        if place.ndim == 2:
            return jnp.any(jax.vmap(near)(place), axis=0)
        return surface_distances(scene.obstacles, place) < clearance

    return scene.replace(obstacles=scene.obstacles.only(~near(scene.start) & ~near(scene.goal)))


def turned(scene: Scene, yaw: Array, *, moving: bool) -> Scene:
    """The scene rotated about the vertical axis through the origin; ``moving``: whether some obstacles move."""
    rotation = about_vertical(yaw)

    def around(solids: Capsules | Boxes | Cylinders) -> dict[str, Array]:
        velocity = {"velocity": solids.velocity @ rotation.T} if moving else {}
        return {"centre": solids.centre @ rotation.T, **velocity}

    capsules, boxes, beams = scene.obstacles.capsules, scene.obstacles.boxes, scene.obstacles.cylinders
    obstacles = scene.obstacles.replace(
        capsules=capsules.replace(**around(capsules)),
        boxes=boxes.replace(**around(boxes), rotation=rotation @ boxes.rotation),
        cylinders=beams.replace(**around(beams), heading=beams.heading + yaw),
    )
    single = scene.start.ndim == 1
    ends = ((rotation @ end if single else end @ rotation.T) for end in (scene.start, scene.goal))
    return scene.replace(obstacles=obstacles, **dict(zip(("start", "goal"), ends, strict=True)))
