"""Settings of the scene families, each field with its family's prefix."""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from drone_cbf.sections import Neutral, Section

Positive = Annotated[float, Field(gt=0.0)]
Pair = tuple[Positive, Positive]
SceneName = Literal[
    "fixed_ring",
    "random_cloud",
    "forest",
    "boxes",
    "windows",
    "corridors",
    "moving",
    "mixed",
    "scattered",
    "gcbf_linear",
    "gcbf_double_integrator",
    "gcbf_crazyflie",
    "ring_swap",
    "tunnel",
    "formation",
]
_SWARM_RANGES = ("gcbf_radius", "gcbf_double_integrator_size", "gcbf_crazyflie_radius")
FOREST_EDGE = 1.0  # Strip without trees after the start line and before the goal line of ``forest`` [m]
BOXES_EDGE = 0.8  # The same of ``boxes`` [m]
WINDOWS_ACROSS = 1.5  # Largest displacement of start and goal from the axis of ``windows`` [m]


class SceneConfig(Section):
    """Obstacles, starts and goals of the scene families."""

    obstacles: int = Field(28, ge=1, le=512)
    """Obstacle slots of ``fixed_ring``, ``random_cloud`` and ``forest``; those that use fewer mask the rest."""
    clearance: float = Field(0.45, ge=0.0, le=3.0)
    """Smallest distance from a start or goal to any obstacle surface [m]."""
    drones: Annotated[int, Field(ge=1, le=4096), Neutral(1)] = 1
    """Drones that fly at once. Starts and goals of a swarm's families have an axis of this many."""
    cloud_half_extent: tuple[Positive, Positive, Positive] = (3.0, 3.0, 1.2)
    """Half size of the ``random_cloud`` box, centred on the origin [m]."""
    cloud_obstacles: int = Field(24, ge=1, le=256)
    """Spheres in ``random_cloud``."""
    cloud_radius: Pair = (0.1, 0.35)
    """Smallest and largest sphere radius in ``random_cloud`` [m]."""
    ring_radius: float = Field(1.6, gt=0.0, le=20.0)
    """Radius of ``fixed_ring`` [m], in the horizontal plane through the origin."""
    ring_obstacles: int = Field(8, ge=1, le=256)
    """Spheres in ``fixed_ring``."""
    ring_sphere_radius: float = Field(0.25, gt=0.0, le=5.0)
    """Radius of each sphere of ``fixed_ring`` [m]."""
    forest_length: float = Field(20.0, gt=5.0, le=200.0)
    """Distance from the start line to the goal line of ``forest`` along x [m]."""
    forest_spacing: float = Field(3.0, gt=1.0, le=20.0)
    """Side of the square cell that holds one tree [m]."""
    forest_jitter: float = Field(0.8, ge=0.0, le=5.0)
    """Largest displacement of a tree from its cell's centre along x and y [m]."""
    forest_radius: Pair = (0.15, 0.4)
    """Smallest and largest trunk radius [m]."""
    forest_wind: float = Field(1.0, ge=0.0, le=10.0)
    """Standard deviation of the horizontal mean wind in ``forest`` [m/s]; a fifth of it vertically."""
    gust: float = Field(0.2, ge=0.0, le=1.0)
    """Standard deviation of gusts as a fraction of the scene's wind setting."""
    gust_time: float = Field(1.0, gt=0.0, le=60.0)
    """Correlation time of gusts (Ornstein-Uhlenbeck) [s]."""
    boxes_length: Annotated[float, Field(gt=5.0, le=200.0), Neutral(14.0)] = 14.0
    """Distance from the start line to the goal line of ``boxes`` along x [m]."""
    boxes_obstacles: Annotated[int, Field(ge=1, le=256), Neutral(16)] = 16
    """Boxes in ``boxes``; those that fill no row from the start line to the goal line are left out."""
    boxes_spacing: Annotated[float, Field(gt=1.0, le=20.0), Neutral(3.1)] = 3.1
    """Side of the square cell that holds one box [m]."""
    boxes_half_size: Annotated[Pair, Neutral((0.15, 0.6))] = (0.15, 0.6)
    """Smallest and largest half side of a box [m]."""
    boxes_gap: Annotated[float, Field(gt=0.0, le=10.0), Neutral(1.0)] = 1.0
    """Smallest gap between two boxes [m]."""
    boxes_tilt: Annotated[float, Field(ge=0.0, le=1.57), Neutral(0.5)] = 0.5
    """Largest tilt of a box [rad]; every second one stands upright."""
    boxes_height: Annotated[float, Field(ge=0.0, le=20.0), Neutral(0.6)] = 0.6
    """Largest displacement of a box's centre from the height of the flight [m]."""
    windows_length: Annotated[float, Field(gt=5.0, le=200.0), Neutral(14.0)] = 14.0
    """Distance from the start line to the goal line of ``windows`` along x [m]."""
    windows_walls: Annotated[int, Field(ge=1, le=32), Neutral(2)] = 2
    """Walls across the flight, each with one opening."""
    windows_thickness: Annotated[float, Field(gt=0.0, le=2.0), Neutral(0.2)] = 0.2
    """Thickness of a wall [m]."""
    windows_half_extent: Annotated[Pair, Neutral((6.0, 4.0))] = (6.0, 4.0)
    """Half width and half height of a wall [m]."""
    windows_opening: Annotated[Pair, Neutral((1.0, 1.6))] = (1.0, 1.6)
    """Smallest and largest width and height of an opening [m]."""
    windows_displacement: Annotated[Pair, Neutral((1.5, 0.6))] = (1.5, 0.6)
    """Largest displacement of an opening's centre from the straight line to the goal, sideways and vertically [m]."""
    windows_yaw: Annotated[float, Field(ge=0.0, le=0.7), Neutral(0.35)] = 0.35
    """Largest angle by which a wall is turned about the vertical [rad]."""
    windows_apart: Annotated[float, Field(ge=0.5, le=50.0), Neutral(3.0)] = 3.0
    """Smallest distance between two walls [m]."""
    windows_room: Annotated[float, Field(ge=0.5, le=50.0), Neutral(1.5)] = 1.5
    """Smallest distance from start and goal to a wall [m]."""
    corridors_length: Annotated[float, Field(gt=5.0, le=200.0), Neutral(12.0)] = 12.0
    """Length of the way from start to goal of ``corridors`` along its middle [m]."""
    corridors_width: Annotated[Pair, Neutral((1.4, 2.2))] = (1.4, 2.2)
    """Smallest and largest distance between the two sides [m]."""
    corridors_bend: Annotated[float, Field(ge=0.0, le=1.4), Neutral(1.05)] = 1.05
    """Largest angle of the bend half way [rad]."""
    corridors_thickness: Annotated[float, Field(gt=0.0, le=5.0), Neutral(0.3)] = 0.3
    """Thickness of the walls [m]."""
    moving_length: Annotated[float, Field(gt=5.0, le=200.0), Neutral(12.0)] = 12.0
    """Distance from the start line to the goal line of ``moving`` along x [m]."""
    moving_half_width: Annotated[float, Field(gt=1.0, le=100.0), Neutral(4.0)] = 4.0
    """Half width of the arena through which the obstacles move [m]."""
    moving_balls: Annotated[int, Field(ge=0, le=256), Neutral(12)] = 12
    """Balls in ``moving``."""
    moving_boxes: Annotated[int, Field(ge=0, le=256), Neutral(8)] = 8
    """Boxes in ``moving``."""
    moving_size: Annotated[Pair, Neutral((0.15, 0.4))] = (0.15, 0.4)
    """Smallest and largest radius of a ball and half side of a box [m]."""
    moving_speed: Annotated[Pair, Neutral((0.3, 1.5))] = (0.3, 1.5)
    """Smallest and largest speed of an obstacle [m/s], also of the moving ones in ``mixed``."""
    mixed_length: Annotated[float, Field(gt=5.0, le=200.0), Neutral(18.0)] = 18.0
    """Distance from the start line to the goal line of ``mixed`` along x [m]."""
    mixed_balls: Annotated[int, Field(ge=0, le=256), Neutral(30)] = 30
    """Balls in ``mixed``."""
    mixed_boxes: Annotated[int, Field(ge=0, le=256), Neutral(30)] = 30
    """Boxes in the air in ``mixed``."""
    mixed_pillars: Annotated[int, Field(ge=0, le=256), Neutral(30)] = 30
    """Vertical cylinders in ``mixed``."""
    mixed_beams: Annotated[int, Field(ge=0, le=64), Neutral(2)] = 2
    """Horizontal cylinders in ``mixed``."""
    mixed_ground_boxes: Annotated[int, Field(ge=0, le=256), Neutral(10)] = 10
    """Boxes on the ground in ``mixed``."""
    mixed_moving: Annotated[int, Field(ge=0, le=256), Neutral(4)] = 4
    """How many of the balls, and how many of the boxes in the air, move in ``mixed``."""
    mixed_wind: Annotated[float, Field(ge=0.0, le=10.0), Neutral(1.0)] = 1.0
    """Standard deviation of the horizontal mean wind in ``mixed`` [m/s]; a fifth of it vertically."""
    scattered_speed: Annotated[float, Field(ge=1.0, le=20.0), Neutral(3.0)] = 3.0
    """Target speed for which the scenes of ``scattered`` are stretched [m/s]; obstacles and wind are those of
    ``mixed``."""
    gcbf_side: Annotated[float, Field(gt=0.1, le=1000.0), Neutral(2.0)] = 2.0
    """Side of the cube of ``gcbf_linear`` [m]."""
    gcbf_obstacles: Annotated[int, Field(ge=1, le=256), Neutral(8)] = 8
    """Spheres in ``gcbf_linear``."""
    gcbf_radius: Annotated[Pair, Neutral((0.075, 0.15))] = (0.075, 0.15)
    """Smallest and largest radius of a sphere in ``gcbf_linear`` [m]."""
    gcbf_apart: Annotated[float, Field(gt=0.0, le=100.0), Neutral(0.2)] = 0.2
    """Least distance of starts from each other, of goals from each other, and of both from obstacles [m]; in GCBF+ four
    radii of the drone."""
    gcbf_double_integrator_side: Annotated[float, Field(gt=0.1, le=1000.0), Neutral(4.0)] = 4.0
    """Side of the square of ``gcbf_double_integrator`` [m]."""
    gcbf_double_integrator_obstacles: Annotated[int, Field(ge=0, le=256), Neutral(8)] = 8
    """Rectangles there."""
    gcbf_double_integrator_size: Annotated[Pair, Neutral((0.1, 0.5))] = (0.1, 0.5)
    """Smallest and largest side of a rectangle [m]."""
    gcbf_crazyflie_side: Annotated[float, Field(gt=0.1, le=1000.0), Neutral(2.0)] = 2.0
    """Side of the cube of ``gcbf_crazyflie`` [m]."""
    gcbf_crazyflie_obstacles: Annotated[int, Field(ge=0, le=256), Neutral(0)] = 0
    """Spheres there."""
    gcbf_crazyflie_radius: Annotated[Pair, Neutral((0.05, 0.3))] = (0.05, 0.3)
    """Smallest and largest radius of a sphere there [m]."""
    swarm_spacing: Annotated[float, Field(gt=0.0, le=10.0), Neutral(0.2)] = 0.2
    """Least distance between starts, and between goals, in ``ring_swap``, ``tunnel`` and ``formation`` [m]."""
    ring_swap_shape: Annotated[Literal["circle", "sphere"], Neutral("circle")] = "circle"
    """On what drones change places with those opposite."""
    tunnel_width: Annotated[float, Field(gt=0.0, le=100.0), Neutral(0.6)] = 0.6
    """Inner width and height of ``tunnel`` [m]."""
    tunnel_length: Annotated[float, Field(gt=0.0, le=100.0), Neutral(2.0)] = 2.0
    """Length of its walls [m]."""
    formation_length: Annotated[float, Field(gt=0.0, le=200.0), Neutral(3.0)] = 3.0
    """Free way of ``formation``, from the first drones' starts to the last ones' goals [m]."""
    formation_obstacles: Annotated[int, Field(ge=1, le=256), Neutral(8)] = 8
    """Spheres on that way."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name in ("cloud_obstacles", "ring_obstacles"):
            if getattr(self, name) > self.obstacles:
                taken = f"{name} = {getattr(self, name)}"
                raise ValueError(f"{taken} exceeds obstacles = {self.obstacles}; raise obstacles")
        ranges = ("cloud_radius", "forest_radius", "boxes_half_size", "windows_opening", "corridors_width")
        for name in (*ranges, "moving_size", "moving_speed", *_SWARM_RANGES):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} = ({low}, {high}) must be ordered (smallest, largest)")
        return self

    @property
    def forest_columns(self) -> int:
        """Cells of ``forest`` from the start line to the goal line."""
        return math.floor((self.forest_length - 2.0 * FOREST_EDGE) / self.forest_spacing)

    @model_validator(mode="after")
    def _forest_fits(self) -> Self:
        length, spacing = f"forest_length = {self.forest_length}", f"forest_spacing = {self.forest_spacing}"
        room = self.forest_length - 2.0 * FOREST_EDGE
        if self.forest_columns < 1:
            remedy = "lower forest_spacing or raise forest_length"
            raise ValueError(f"{spacing} exceeds the {room:g} m that {length} leaves for trees; {remedy}")
        if self.forest_columns > self.obstacles:
            row = f"takes a row of {self.forest_columns} trees, more than obstacles = {self.obstacles}; raise obstacles"
            raise ValueError(f"{length} with {spacing} {row} or forest_spacing, or lower forest_length")
        widest = 0.5 * self.forest_spacing - self.forest_radius[1]
        if self.forest_jitter > widest + 1e-9:  # 1e-9: rounding of the difference
            allowed = f"allowed with {spacing} and trunks of {self.forest_radius[1]} m: <= {widest:g}"
            wrong = f"forest_jitter = {self.forest_jitter} lets trees leave their cells and overlap ({allowed})"
            raise ValueError(f"{wrong}; lower forest_jitter or raise forest_spacing")
        return self

    @property
    def boxes_columns(self) -> int:
        """Cells of ``boxes`` from the start line to the goal line."""
        return math.floor((self.boxes_length - 2.0 * BOXES_EDGE) / self.boxes_spacing + 1e-6)

    @model_validator(mode="after")
    def _boxes_fit(self) -> Self:
        if not 1 <= self.boxes_columns <= self.boxes_obstacles:
            wrong = f"boxes_length = {self.boxes_length} with boxes_spacing = {self.boxes_spacing} makes rows of"
            allowed = f"allowed: 1 to boxes_obstacles = {self.boxes_obstacles}"
            raise ValueError(f"{wrong} {self.boxes_columns} boxes ({allowed}); change one of them")
        needed = self.boxes_gap + 2.0 * math.sqrt(3.0) * self.boxes_half_size[1]
        if self.boxes_spacing < needed:
            wrong = f"boxes_spacing = {self.boxes_spacing} leaves less than boxes_gap = {self.boxes_gap} between boxes"
            raise ValueError(f"{wrong} (allowed: >= {needed:.3g}); raise it or lower boxes_half_size")
        return self

    @property
    def windows_edge(self) -> float:
        """Distance along x from the start or goal line within which no wall crosses the straight line to the goal [m].

        A wall turned by ``windows_yaw`` then keeps ``windows_room`` from a start or goal beside the axis.
        """
        slope = 2.0 * WINDOWS_ACROSS / self.windows_length
        approach = math.cos(self.windows_yaw) - slope * math.sin(self.windows_yaw)
        return (self.windows_room + 0.5 * self.windows_thickness) / approach

    @model_validator(mode="after")
    def _windows_fit(self) -> Self:
        turned = 2.0 * self.windows_half_extent[0] * math.sin(self.windows_yaw)
        apart = (self.windows_apart + self.windows_thickness) / math.cos(self.windows_yaw) + turned
        needed = 2.0 * self.windows_edge + (self.windows_walls - 1) * apart
        if self.windows_length < needed:
            wrong = f"windows_length = {self.windows_length} is too short for windows_walls = {self.windows_walls}"
            raise ValueError(f"{wrong} (allowed: >= {needed:.3g}); raise it, or lower windows_walls or windows_yaw")
        for axis, kind in enumerate(("width", "height")):
            widest = self.windows_displacement[axis] + 0.5 * self.windows_opening[1]
            if widest >= self.windows_half_extent[axis]:
                wrong = (
                    f"windows_half_extent: half {kind} = {self.windows_half_extent[axis]} does not hold the openings"
                )
                raise ValueError(f"{wrong} (allowed: > {widest:g}); raise it or lower windows_displacement")
        return self

    @model_validator(mode="after")
    def _moving_are_there(self) -> Self:
        fewest = min(self.mixed_balls, self.mixed_boxes)
        if self.mixed_moving > fewest:
            raise ValueError(f"mixed_moving = {self.mixed_moving} exceeds the balls or boxes (allowed: <= {fewest})")
        return self
