"""Frozen, typed, range-checked settings of the system. Validated once, on construction; unknown keys are refused.

Field docstrings state unit and meaning and become the text of ``--help``. Defaults are the best of recorded runs.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from drone_cbf.physics_config import PhysicsConfig as PhysicsConfig
from drone_cbf.scene_config import SceneConfig
from drone_cbf.scene_config import SceneName as SceneName
from drone_cbf.sections import Fraction as Fraction
from drone_cbf.sections import Neutral, Section
from drone_cbf.sensor_config import SensorConfig as SensorConfig
from drone_cbf.sensor_config import SensorKind as SensorKind

GoalMode = Literal["trained", "shifted", "random"]
StratumName = Literal["open", "boundary", "gap", "corridor", "high_speed"]


def refuse_repeats(name: str, values: Sequence[object]) -> None:
    """Raise ValueError if an entry of the list ``name`` occurs twice."""
    repeated = next((value for value in values if values.count(value) > 1), None)
    if repeated is not None:
        text = ",".join(map(str, values))
        raise ValueError(f"{name} = {text} holds {repeated} twice; name each of them once")


class BarrierConfig(Section):
    """Analytic and neural barrier, and the class-K condition (DESIGN 4, Barrier)."""

    kind: Literal["braking", "distance_hocbf"] = "braking"
    """Analytic barrier: braking distance (relative degree one), or soft-min distance (degree two, the baseline)."""
    safety_margin: float = Field(0.10, ge=0.0, le=1.0)
    """Margin beyond the drone's radius [m]: r_safe = drone_radius + safety_margin."""
    reaction_time: float = Field(0.12, ge=0.0, le=1.0)
    """tau [s]: the distance c tau covers lag, delay and sampling."""
    braking: float = Field(7.0, gt=0.0, le=50.0)
    """a_brake [m/s^2]; less than max_acceleration, which leaves room to act."""
    passing: Annotated[Fraction, Neutral(0.0)] = 0.0
    """How far surfaces count as round, as the balls and upright cylinders that were fitted to them
    (perception/surface_map.py). 0: as planes, before which the drone must be able to stop, also those that it flies
    past; 1: it need only be able to pass beside; in between it passes the farther the faster. Needs ``sensor.kind``
    surfaces."""
    temperature: float = Field(0.06, gt=0.0, le=1.0)
    """Soft-min temperature T [m]: surfaces whose margins differ by less all contribute to the row."""
    base: Annotated[Literal["distance", "braking"], Neutral("distance")] = "distance"
    """What the neural barrier corrects at each node: its distance, or its braking margin (DESIGN 4)."""
    class_k_gain: float = Field(5.0, gt=0.0, le=20.0)
    """alpha of the CBF condition dh/dt >= -alpha h [1/s]."""
    speed_tightening: float = Field(0.3, ge=0.0, le=5.0)
    """The filter requires dh/dt >= -alpha h + this times speed [m/s per m/s], for the error of the learned barrier."""
    speed_tightening_at: Annotated[Literal["everywhere", "ridges"], Neutral("everywhere")] = "everywhere"
    """``ridges``: only as far as surfaces compete: all of it where no node has over half of the influence on h, none
    where a single one has all of it."""
    noise_tightening: float = Field(2.0, ge=0.0, le=10.0)
    """Standard deviations of the row, due to uncertain surfaces and position, by which it is tightened."""
    fit_tightening: Annotated[float, Field(ge=0.0, le=10.0), Neutral(1.0)] = 1.0
    """Multiple of the held-out error in velocity of the double integrator fitted to the drone (physics/effective.py) by
    which the row is tightened; that of a ``point_mass``, which needs no fit, is zero."""
    confidence: Annotated[float, Field(gt=0.0, lt=1.0), Neutral(0.999)] = 0.999
    """Quantile of the neural barrier's over-estimates near the boundary that the calibrated margin covers."""
    margin_factor: float = Field(1.0, ge=0.0, le=10.0)
    """Multiple of the calibrated margin that is subtracted from the neural barrier; 0 subtracts none."""
    features: int = Field(48, ge=4, le=512)
    """Width of the neural barrier's layers."""


class FilterConfig(Section):
    """CBF-QP: min 0.5 |u - u_nom|^2 + penalty on the slack (DESIGN 4, Filter)."""

    solver: Literal["exact", "qpax", "projected_gradient"] = "exact"
    """``exact``: one-dimensional dual; ``qpax``: interior point (implicit gradient); ``projected_gradient``:
    iterative."""
    gradient: Literal["full", "identity", "stopped"] = "full"
    """``full``: to nominal command and row; ``identity``: identity to the nominal command; ``stopped``: none."""
    penalty: float = Field(1000.0, gt=0.0, le=1e6)
    """rho, weight of the slack of a row whose largest coefficient is 1."""
    slack_penalty: Literal["linear", "quadratic"] = "linear"
    """``linear``: rho * slack; exact: no slack if an admissible command meets the row. ``quadratic``: rho/2 * slack^2,
    the baseline: some slack on every step on which the filter acts. Not with ``solver`` qpax."""
    rows: Annotated[Literal["pairwise", "separate", "soft_min"], Neutral("pairwise")] = "pairwise"
    """In a swarm. ``pairwise``: a row for all obstacles together and one for each other drone, of whose demand both
    take half; ``separate``: one for each obstacle as well: between two, what holds the drone off one drives it to the
    other; ``soft_min``: a single row for everything, as if the other drones flew straight on."""
    authority: float = Field(1e-3, gt=0.0, le=1.0)
    """Rows with max|a| below this are not enforced: the nominal command passes, and the step is counted."""

    @model_validator(mode="after")
    def _is_solvable(self) -> Self:
        if self.solver == "qpax" and self.slack_penalty == "quadratic":
            remedy = "set filter.solver to exact or projected_gradient, or filter.slack_penalty to linear"
            raise ValueError(f"filter.slack_penalty = quadratic is not solved by filter.solver = qpax; {remedy}")
        return self


class PolicyConfig(Section):
    """The policy network."""

    kind: Annotated[Literal["graph", "steered", "boundary", "recurrent_depth"], Neutral("graph")] = "graph"
    """``graph``: memoryless, towards the goal and away from the nodes of the graph; ``steered``: the same around a
    direction chosen among the open ones, so that it finds windows; remembers the last choice;
    ``boundary``: the same around a direction along the boundary of what is in the way, for flight at one height;
    ``recurrent_depth``: convolution and recurrence over the image of the sensor ``depth``, no obstacle positions."""
    features: int = Field(128, ge=4, le=1024)
    """Width of the trunk."""
    node_features: int = Field(48, ge=4, le=1024)
    """Width of the per-node message."""
    goal_scale: float = Field(4.0, gt=0.0, le=100.0)
    """Goals farther than about this act as directions [m]."""


class ObjectiveConfig(Section):
    """Weights of the trajectory loss; 0 disables a term."""

    goal: float = Field(6.0, ge=0.0)
    """Mean distance to the goal, relative to the flight's length."""
    goal_radius: Annotated[float, Field(gt=0.0, le=5.0), Neutral(0.2)] = 0.2
    """Largest distance to the goal at which a drone is at the goal [m]."""
    final: float = Field(4.0, ge=0.0)
    """Distance to the goal over the last second."""
    final_speed: float = Field(1.0, ge=0.0)
    """Speed over the last second."""
    speed: float = Field(0.5, ge=0.0)
    """Speed beyond ``max_speed``."""
    max_speed: float = Field(5.5, gt=0.0, le=50.0)
    """Cruise speed above which ``speed`` penalises [m/s]."""
    unseen: Annotated[float, Field(ge=0.0), Neutral(0.0)] = 0.0
    """Speed beyond that from which the drone stops within the way ahead that it has seen: up to the frontier of a
    camera, else up to the sensing range."""
    velocity: Annotated[float, Field(ge=0.0), Neutral(0.0)] = 0.0
    """Difference to the velocity straight to the goal at cruise speed, averaged over 2 s (DiffPhysDrone)."""
    slowest_cruise: Annotated[float, Field(ge=0.0, le=50.0), Neutral(0.0)] = 0.0
    """Each flight in training draws its cruise speed from this one up to ``max_speed`` [m/s]; 0: all fly at
    ``max_speed``."""
    effort: float = Field(0.002, ge=0.0)
    """Squared command."""
    smoothness: float = Field(0.002, ge=0.0)
    """Squared change of command between steps."""
    clearance: float = Field(5.0, ge=0.0)
    """Approach within ``clearance_distance`` of a surface, times closing speed (DiffPhysDrone)."""
    clearance_distance: float = Field(0.5, gt=0.0, le=5.0)
    """Surface distance beyond the drone's radius under which ``clearance`` acts [m]."""
    collision: float = Field(80.0, ge=0.0)
    """Soft penetration depth (DiffPhysDrone's softplus)."""
    slack: float = Field(10.0, ge=0.0)
    """Slack of the filter."""
    intervention: float = Field(0.004, ge=0.0)
    """Squared difference of safe and nominal command."""
    fallback: float = Field(1.0, ge=0.0)
    """Squared nominal command on steps on which the filter fell back to braking."""
    violation: float = Field(0.0, ge=0.0)
    """Squared violation of the CBF condition by the analytic barrier along the true path [(m/s)^2]."""

    @model_validator(mode="after")
    def _cruise_speeds_are_ordered(self) -> Self:
        if self.slowest_cruise > self.max_speed:
            wrong = f"objective.slowest_cruise = {self.slowest_cruise} exceeds objective.max_speed = {self.max_speed}"
            raise ValueError(f"{wrong}; lower it, or 0 for one speed")
        return self


class SystemConfig(Section):
    """Drone, world and controller; inherited from the parent run."""

    physics: PhysicsConfig = PhysicsConfig()
    scene: SceneConfig = SceneConfig()
    sensor: SensorConfig = SensorConfig()
    barrier: BarrierConfig = BarrierConfig()
    filter: FilterConfig = FilterConfig()
    policy: PolicyConfig = PolicyConfig()
    objective: ObjectiveConfig = ObjectiveConfig()

    @property
    def seen_speed(self) -> float:
        """Speed from which the drone stops within the sensing range [m/s]: faster, it may meet what it has not seen."""
        a, tau = self.barrier.braking, self.barrier.reaction_time
        room = max(0.0, self.sensor.range - self.physics.drone_radius - self.barrier.safety_margin)
        return a * (math.sqrt(tau**2 + 2.0 * room / a) - tau)  # tau v + v^2 / (2 a) = room

    @property
    def cruise_speed(self) -> float:
        """How fast policies fly unless they are told otherwise [m/s]."""
        return min(self.objective.max_speed, self.seen_speed)

    @model_validator(mode="after")
    def _policy_has_its_sensor(self) -> Self:
        if self.policy.kind == "steered" and self.sensor.kind == "surfaces":
            wrong = "policy.kind = steered chooses among open directions, which sensor.kind = surfaces does not show"
            raise ValueError(f"{wrong}; set sensor.kind to lidar, or policy.kind to graph")
        if self.policy.kind == "recurrent_depth" and self.sensor.kind != "depth":
            wrong = f"policy.kind = recurrent_depth needs the image of a camera, but sensor.kind = {self.sensor.kind}"
            raise ValueError(f"{wrong}; set sensor.kind to depth, or policy.kind to graph or steered")
        return self

    @model_validator(mode="after")
    def _round_surfaces_are_fitted(self) -> Self:
        if self.barrier.passing and (self.sensor.kind, self.barrier.kind) != ("surfaces", "braking"):
            wrong = "barrier.passing needs the fitted surfaces of sensor.kind = surfaces, and kind = braking"
            found = f"sensor.kind = {self.sensor.kind}, barrier.kind = {self.barrier.kind}"
            raise ValueError(f"{wrong}, but {found}; set barrier.passing to 0")
        return self

    @model_validator(mode="after")
    def _braking_is_possible(self) -> Self:
        limit, model = round(min(filter(None, self.physics.reach)), 3), self.physics.model
        if self.barrier.braking > limit:
            where = "" if model == "point_mass" else f" that physics.model = {model} follows"
            limits = f"the smallest physics.max_acceleration = {limit}{where}"
            wrong = f"barrier.braking = {self.barrier.braking} exceeds {limits}"
            raise ValueError(f"{wrong}; lower barrier.braking, or the barrier promises a stop the drone cannot make")
        return self


class OptimiserConfig(Section):
    """AdamW with global-norm clipping and a cosine schedule."""

    learning_rate: float = Field(3e-3, gt=0.0, le=1.0)
    """Peak learning rate."""
    clip: float = Field(1.0, gt=0.0)
    """Largest global gradient norm."""
    weight_decay: float = Field(1e-5, ge=0.0)
    """Decoupled weight decay."""
    warmup: Fraction = 0.05
    """Fraction of the steps over which the learning rate rises."""
    final_fraction: Fraction = 0.05
    """Learning rate at the last step, relative to the peak."""
