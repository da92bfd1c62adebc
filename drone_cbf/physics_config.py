"""Settings of the drone."""

import math
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from drone_cbf.airframes import AIRFRAMES, GRAVITY
from drone_cbf.sections import Neutral, Section

Acceleration = Annotated[float, Field(gt=0.0, le=1000.0)]  # Beyond, rounding breaks the filter's promises
ModelName = Literal["point_mass", "attitude", "quadrotor", "linear", "double_integrator", "crazyflie"]
OWN_REACH: Mapping[str, tuple[float, float, float]] = {
    "linear": (10.0, 10.0, 10.0),
    "double_integrator": (10.0, 10.0, 0.0),
    "crazyflie": (5.0, 5.0, 3.0),
}
"""Largest command of GCBF+'s drones along each axis [m/s^2]; 0: the drone does not move along it."""
AirframeName = Literal["crazyflie", "racing"]


class PhysicsConfig(Section):
    """The drone: its dynamics, transport delay, drag and command limits (DESIGN 4, Dynamics)."""

    model: Annotated[ModelName, Neutral("point_mass")] = "point_mass"
    """``point_mass``: desired accelerations are followed with a lag, in any direction at once; ``attitude``: by thrust
    along the drone's upward axis, which it must turn first; ``quadrotor``: by four rotors of a rigid body,
    ``airframe``, whose drag and rotor lag replace those given here; ``linear``: GCBF+'s LinearDrone, with its own
    drag, at most 0.5 m/s along each axis; ``double_integrator``: its DoubleIntegrator, at most as fast, at one
    height; ``crazyflie``: its CrazyFlie, a rigid body whose velocity is regulated, at most 0.3 m/s along each axis."""
    airframe: Annotated[AirframeName, Neutral("crazyflie")] = "crazyflie"
    """The ``quadrotor``: ``crazyflie``, 43 g, as identified; ``racing``, 0.5 kg and 4.5 times its weight in thrust."""
    belief: Annotated[Literal["fitted", "configured"], Neutral("fitted")] = "fitted"
    """What controllers take the lag and delay of ``attitude`` and ``quadrotor`` to be: those fitted to the drone's step
    responses; or ``lag_time`` and ``delay``, as if it were a point mass, which shows what the fit is worth."""
    time_step: float = Field(0.05, ge=0.005, le=0.2)
    """Control period dt [s]; a command is held for one period."""
    lag_time: float = Field(0.08, ge=0.0, le=0.5)
    """Time constant of the thrust lag [s]; 0 for none."""
    delay: float = Field(0.05, ge=0.0, le=0.2)
    """Transport delay of a command [s]; need not be a multiple of the period."""
    random_delay: Annotated[float, Field(ge=0.0, le=1.0), Neutral(0.0)] = 0.0
    """Largest relative error of ``delay`` of randomised drones (``robust/*``), which their controllers do not know; not
    of ``linear`` and ``double_integrator``."""
    linear_drag: float = Field(0.3, ge=0.0, le=2.0)
    """Drag per unit of air speed [1/s]."""
    quadratic_drag: float = Field(0.01, ge=0.0, le=0.5)
    """Drag per square of air speed [1/m]."""
    max_acceleration: tuple[Acceleration, Acceleration, Acceleration] = (12.0, 12.0, 8.0)
    """Largest command along each world axis [m/s^2], gravity already compensated; less where the thrust of the model
    does not suffice."""
    drone_radius: float = Field(0.12, gt=0.0, le=1.0)
    """Radius of the sphere that encloses the drone [m]; a surface closer than this is a collision."""
    yaw_rate: Annotated[float, Field(gt=0.0, le=20.0), Neutral(3.0)] = 3.0
    """Largest rate at which the drone turns to look elsewhere [rad/s]; matters to a depth camera only."""
    inner_rate: Annotated[float, Field(ge=20.0, le=2000.0), Neutral(200.0)] = 200.0
    """Rate of the loop that turns a desired acceleration into thrust and attitude [Hz]; not of a ``point_mass``."""
    max_tilt: Annotated[float, Field(ge=5.0, le=85.0), Neutral(60.0)] = 60.0
    """Largest tilt of the thrust that the inner loop asks for [deg]; not of a ``point_mass``."""
    min_thrust: Annotated[float, Field(gt=0.0, lt=1.0), Neutral(0.15)] = 0.15
    """Least thrust of ``attitude``, in weights of the drone."""
    max_thrust: Annotated[float, Field(gt=1.0, le=20.0), Neutral(2.0)] = 2.0
    """Largest thrust of ``attitude``, in weights of the drone."""
    body_rate: Annotated[float, Field(gt=0.0, le=50.0), Neutral(10.0)] = 10.0
    """Largest rate of roll and pitch of ``attitude`` [rad/s]."""
    rate_lag: Annotated[float, Field(ge=0.005, le=0.5), Neutral(0.03)] = 0.03
    """Time constant of the body rates of ``attitude`` [s]."""
    gradient_decay: float = Field(2.5, ge=0.0, le=10.0)
    """Temporal gradient decay alpha [1/s]: back-propagated dp'/dp and dv'/dv shrink by exp(-alpha dt); 0 is off."""
    gradient_limit: float = Field(3.0, gt=0.0)
    """Largest norm of one flight's back-propagated gradient with respect to its state, at every step."""

    @property
    def longest_delay(self) -> float:
        """Largest delay of a randomised drone [s]."""
        return self.delay * (1.0 + self.random_delay)

    @property
    def thrust_range(self) -> tuple[float, float]:
        """Least and largest thrust per mass of a model with an attitude [m/s^2]."""
        if self.model == "quadrotor":
            return AIRFRAMES[self.airframe].thrust_range
        return self.min_thrust * GRAVITY, self.max_thrust * GRAVITY

    @property
    def reach(self) -> tuple[float, float, float]:
        """The largest command along each axis alone that the drone can follow, either way [m/s^2]; 0 along one that it
        does not move along."""
        x, y, z = self.max_acceleration
        if self.model == "point_mass":
            return x, y, z
        if self.model in OWN_REACH:
            own_x, own_y, own_z = OWN_REACH[self.model]
            return min(x, own_x), min(y, own_y), min(z, own_z)
        lowest, highest = self.thrust_range
        level = min(math.sqrt(highest**2 - GRAVITY**2), math.tan(math.radians(self.max_tilt)) * GRAVITY)
        vertical = min(highest - GRAVITY, GRAVITY - lowest)
        return min(x, level), min(y, level), min(z, vertical)
