"""``mixed``: balls, boxes, pillars, beams and boxes on the ground, some moving, as dense as DiffPhysDrone's scenes.

There 30 balls, 30 boxes, 30 pillars, 2 beams and 10 ground boxes are scattered across 18 m, up to 6 m high, over the
length of the flight (Zhang et al. 2025, Learning vision-based agile flight via differentiable physics).
"""

import math

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


def sample(key: jax.Array, goals: GoalMode, config: SceneConfig) -> Scene:
    """Along the scattered obstacles, in wind."""
    room = slots(config)
    count, moving = room.capsules + room.boxes, 2 * config.mixed_moving
    things: dict[str, tuple[int, ...]] = {"place": (count, 3), "size": (count, 3), "turn": (count,)}
    beams: dict[str, tuple[int, ...]] = {"beam": (room.cylinders, 3), "beam_turn": (room.cylinders,)}
    draw = uniform_draws(key, **things, **beams, beam_radius=(room.cylinders,), **path_draws(moving), **CROSSING)
    course = Course(
        length=config.mixed_length,
        half_width=4.0,
        half_height=max(0.0, min(START_HEIGHT, -GROUND - config.clearance - BEYOND_RANGE)),
        shift=(3.0, 0.4),
        wind=config.mixed_wind,
        gust=config.gust,
        moving=True,
    )
    scene = crossing(_scattered(draw, config), ends(draw, goals, course), draw, goals, course)
    return paths_cleared(scene, config.clearance)


def _scattered(draw: dict[str, Array], config: SceneConfig) -> Obstacles:
    low = jnp.array([EDGE, -HALF_WIDTH, GROUND])
    high = jnp.array([config.mixed_length - EDGE, HALF_WIDTH, TOP])
    place = between(draw["place"], low, high)
    first_box, some = config.mixed_balls + config.mixed_pillars, config.mixed_moving
    velocity = velocities(draw, config.moving_speed)
    movers = jnp.concatenate([jnp.arange(some), first_box + jnp.arange(some)])
    place = place.at[movers].set(moved_back(place[movers], velocity, draw))
    velocity = jnp.zeros_like(place).at[movers].set(velocity)
    beam = between(draw["beam"], low, high).at[:, 1].set(0.0)
    return obstacles_of(
        capsules=_balls_and_pillars(place[:first_box], velocity[:first_box], draw["size"][:first_box, 0], config),
        boxes=_boxes(place[first_box:], velocity[first_box:], draw, config),
        cylinders=Cylinders(
            centre=beam,
            heading=0.5 * math.pi + BEAM_TURN * between(draw["beam_turn"], -1.0, 1.0),
            half_length=jnp.full(beam.shape[0], HALF_WIDTH, jnp.float32),
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
