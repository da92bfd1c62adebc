"""Settings of the drone."""

from typing import Annotated, Literal

from pydantic import Field

from drone_cbf.sections import Neutral, Section

Acceleration = Annotated[float, Field(gt=0.0, le=1000.0)]  # Beyond, rounding breaks the filter's promises
ModelName = Literal["point_mass"]


class PhysicsConfig(Section):
    """The drone: its dynamics, transport delay, drag and command limits (DESIGN 4, Dynamics)."""

    model: Annotated[ModelName, Neutral("point_mass")] = "point_mass"
    """``point_mass``: desired accelerations are followed with a lag, in any direction at once."""
    time_step: float = Field(0.05, ge=0.005, le=0.2)
    """Control period dt [s]; a command is held for one period."""
    lag_time: float = Field(0.08, ge=0.0, le=0.5)
    """Time constant of the thrust lag [s]; 0 for none."""
    delay: float = Field(0.05, ge=0.0, le=0.2)
    """Transport delay of a command [s]; need not be a multiple of the period."""
    linear_drag: float = Field(0.3, ge=0.0, le=2.0)
    """Drag per unit of air speed [1/s]."""
    quadratic_drag: float = Field(0.01, ge=0.0, le=0.5)
    """Drag per square of air speed [1/m]."""
    max_acceleration: tuple[Acceleration, Acceleration, Acceleration] = (12.0, 12.0, 8.0)
    """Largest command along each world axis [m/s^2], gravity already compensated."""
    drone_radius: float = Field(0.12, gt=0.0, le=1.0)
    """Radius of the sphere that encloses the drone [m]; a surface closer than this is a collision."""
    yaw_rate: Annotated[float, Field(gt=0.0, le=20.0), Neutral(3.0)] = 3.0
    """Largest rate at which the drone turns to look elsewhere [rad/s]; matters to a depth camera only."""
    gradient_decay: float = Field(2.5, ge=0.0, le=10.0)
    """Temporal gradient decay alpha [1/s]: back-propagated dp'/dp and dv'/dv shrink by exp(-alpha dt); 0 is off."""
    gradient_limit: float = Field(3.0, gt=0.0)
    """Largest norm of one flight's back-propagated gradient with respect to its state, at every step."""
