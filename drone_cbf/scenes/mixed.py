"""``mixed``: balls, boxes, pillars, beams and boxes on the ground, some moving; DiffPhysDrone's, packed densely.

There 30 balls, 30 boxes, 30 pillars, 2 beams and 10 ground boxes are scattered across 18 m, up to 6 m high (Zhang et
al. 2025, Learning vision-based agile flight via differentiable physics), and then stretched with the target speed
(``scattered``). Here they stay within 16 m by 18 m: 3.5 times as many per square metre as there at 3 m/s.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array

from drone_cbf.config import GoalMode, SceneConfig
from drone_cbf.draws import between, uniform_draws
from drone_cbf.physics.obstacles import Obstacles, obstacles_of
from drone_cbf.physics.solids.boxes import Boxes
from drone_cbf.physics.solids.capsules import Capsules
from drone_cbf.physics.solids.cylinders import Cylinders
from drone_cbf.physics.solids.ground import Ground
from drone_cbf.scenes.crossings import CROSSING, Course, crossing, ends
from drone_cbf.scenes.motion import moved_back, path_draws, paths_cleared, velocities
from drone_cbf.scenes.rotations import about_vertical
from drone_cbf.scenes.scene import Scene
from drone_cbf.scenes.slots import Slots

EDGE = 1.0  # Distance of all centres from the start line and the goal line [m]
HALF_WIDTH, GROUND, TOP = 9.0, -1.0, 5.0  # Where centres lie: across, and from the ground up [m]
BALL_RADIUS = (0.4, 0.6)
BOX_HALF_SIZE = (0.2, 0.3)
PILLAR_RADIUS = (0.05, 0.4)
PILLAR_HALF_HEIGHT = 30.0
BEAM_RADIUS = (0.05, 0.15)
BEAM_TURN = 0.3  # Largest angle between a beam and the y axis [rad]
GROUND_BOX_HALF_SIZE = ((0.1, 0.1, 0.1), (1.5, 1.5, 1.2))  # Smallest and largest, centred on the ground
START_HEIGHT = 0.5  # Largest height of starts and goals above or below the origin [m]
BEYOND_RANGE = 0.01  # Starts and goals keep this much more than the clearance from the ground [m], so that it stays


def slots(config: SceneConfig) -> Slots:
    """Balls then pillars; boxes in the air then on the ground; beams; the ground."""
    return Slots(
        capsules=config.mixed_balls + config.mixed_pillars,
        boxes=config.mixed_boxes + config.mixed_ground_boxes,
        cylinders=config.mixed_beams,
        ground=1,
    )


def course_above_ground(config: SceneConfig, length: float, *, moving: bool) -> Course:
    """The course over ``length`` [m], in the wind of ``mixed``."""
    return Course(
        length=length,
        half_width=4.0,
        half_height=max(0.0, min(START_HEIGHT, -GROUND - config.clearance - BEYOND_RANGE)),
        shift=(3.0, 0.4),
        wind=config.mixed_wind,
        gust=config.gust,
        moving=moving,
    )


def sample(key: jax.Array, goals: GoalMode, config: SceneConfig) -> Scene:
    """Along the scattered obstacles, in wind."""
    draw = uniform_draws(key, **scatter_draws(config, config.mixed_moving), **CROSSING)
    course = course_above_ground(config, config.mixed_length, moving=True)
    field = Field(length=config.mixed_length, half_width=HALF_WIDTH, moving=config.mixed_moving)
    scene = crossing(scattered(draw, config, field), ends(draw, goals, course), draw, goals, course)
    return paths_cleared(scene, config.clearance)


@dataclass(frozen=True)
class Field:
    """Where obstacles are scattered."""

    length: float  # From the start line to the goal line [m]
    half_width: float  # To both sides of the x axis [m]
    moving: int  # How many of the balls, and how many of the boxes in the air, move


def scatter_draws(config: SceneConfig, moving: int) -> dict[str, tuple[int, ...]]:
    """Draws used by :func:`scattered`, uniform in [0, 1)."""
    room = slots(config)
    count = room.capsules + room.boxes
    things: dict[str, tuple[int, ...]] = {"place": (count, 3), "size": (count, 3), "turn": (count,)}
    beams: dict[str, tuple[int, ...]] = {"beam": (room.cylinders, 3), "beam_turn": (room.cylinders,)}
    return {**things, **beams, "beam_radius": (room.cylinders,), **path_draws(2 * moving)}


def scattered(draw: dict[str, Array], config: SceneConfig, field: Field) -> Obstacles:
    """Obstacles at random places of ``field``, in the numbers of ``mixed``."""
    low = jnp.array([EDGE, -field.half_width, GROUND])
    high = jnp.array([field.length - EDGE, field.half_width, TOP])
    place = between(draw["place"], low, high)
    first_box, velocity = config.mixed_balls + config.mixed_pillars, jnp.zeros_like(place)
    if some := field.moving:
        movers = jnp.concatenate([jnp.arange(some), first_box + jnp.arange(some)])
        moves = velocities(draw, config.moving_speed)
        place = place.at[movers].set(moved_back(place[movers], moves, draw))
        velocity = velocity.at[movers].set(moves)
    beam = between(draw["beam"], low, high).at[:, 1].set(0.0)
    return obstacles_of(
        capsules=_balls_and_pillars(place[:first_box], velocity[:first_box], draw["size"][:first_box, 0], config),
        boxes=_boxes(place[first_box:], velocity[first_box:], draw, config),
        cylinders=Cylinders(
            centre=beam,
            heading=0.5 * math.pi + BEAM_TURN * between(draw["beam_turn"], -1.0, 1.0),
            half_length=jnp.full(beam.shape[0], field.half_width, jnp.float32),
            radius=between(draw["beam_radius"], *BEAM_RADIUS),
            velocity=jnp.zeros_like(beam),
            active=jnp.ones(beam.shape[0], bool),
        ),
        ground=Ground(height=jnp.full(1, GROUND, jnp.float32), active=jnp.ones(1, bool)),
    )


def _balls_and_pillars(place: Array, velocity: Array, size: Array, config: SceneConfig) -> Capsules:
    ball = jnp.arange(place.shape[0]) < config.mixed_balls
    return Capsules(
        centre=place,
        radius=jnp.where(ball, between(size, *BALL_RADIUS), between(size, *PILLAR_RADIUS)),
        half_height=jnp.where(ball, jnp.float32(0.0), PILLAR_HALF_HEIGHT),
        velocity=velocity,
        active=jnp.ones(place.shape[0], bool),
    )


def _boxes(place: Array, velocity: Array, draw: dict[str, Array], config: SceneConfig) -> Boxes:
    count, first_box = place.shape[0], draw["size"].shape[0] - place.shape[0]
    size, turn = draw["size"][first_box:], draw["turn"][first_box:]
    on_ground = (jnp.arange(count) >= config.mixed_boxes)[:, None]
    smallest, largest = (jnp.array(bound) for bound in GROUND_BOX_HALF_SIZE)
    return Boxes(
        centre=jnp.where(on_ground, place.at[:, 2].set(GROUND), place),
        half_size=jnp.where(on_ground, between(size, smallest, largest), between(size, *BOX_HALF_SIZE)),
        rotation=about_vertical(2.0 * math.pi * turn),
        velocity=velocity,
        active=jnp.ones(count, bool),
    )
