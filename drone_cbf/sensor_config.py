"""Settings of what the drone senses, and of what it makes of that over time."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from drone_cbf.sections import Fraction, Neutral, Section

SensorKind = Literal["surfaces", "lidar", "depth"]


class SensorConfig(Section):
    """What the drone senses of its surroundings, and the estimates over time."""

    kind: Annotated[SensorKind, Neutral("surfaces")] = "surfaces"
    """``surfaces``: the nearest point of each obstacle, labelled (perfect data association, which no sensor gives: a
    baseline); ``lidar``: unlabelled points of a scanning range sensor, occluded, without velocities; ``depth``: those
    of a camera that looks where the drone heads, and its image."""
    lidar_azimuths: Annotated[int, Field(ge=4, le=2048), Neutral(32)] = 32
    """Rays around the vertical axis in one scan."""
    lidar_elevations: Annotated[int, Field(ge=1, le=256), Neutral(16)] = 16
    """Rays between the lowest and the highest elevation in one scan, evenly spaced in its sine."""
    lidar_field: Annotated[tuple[float, float], Neutral((-90.0, 90.0))] = (-90.0, 90.0)
    """Lowest and highest elevation seen [deg]."""
    lidar_rate: Annotated[float, Field(gt=0.0, le=1000.0), Neutral(20.0)] = 20.0
    """Scans per second; at less than one per control step, each step sees the azimuths swept since the last one."""
    lidar_dropout: Annotated[Fraction, Neutral(0.01)] = 0.01
    """Probability that a ray returns nothing, though it met a surface."""
    depth_width: Annotated[int, Field(ge=16, le=640), Neutral(32)] = 32
    """Columns of the depth image, a multiple of 16; it is pooled to 16."""
    depth_height: Annotated[int, Field(ge=12, le=480), Neutral(24)] = 24
    """Rows of the depth image, the same multiple of 12."""
    map_time: Annotated[float, Field(ge=0.0, le=10.0), Neutral(0.2)] = 0.2
    """How long points are kept that new rays passed by without meeting them again [s]: thin obstacles lie between rays
    of one scan, but not of several."""
    map_memory: Annotated[float, Field(ge=0.0, le=600.0), Neutral(5.0)] = 5.0
    """How long points are kept that are out of the sensor's view [s]."""
    map_doubt: Annotated[float, Field(ge=0.0, le=10.0), Neutral(0.1)] = 0.1
    """Growth of the standard deviation of a remembered point [m/s]."""
    approach_time: Annotated[float, Field(ge=0.0, le=2.0), Neutral(0.3)] = 0.3
    """How long ago the ranges are from which approaching surfaces are recognised [s]; 0: all count as at rest."""
    approach_speed: Annotated[float, Field(gt=0.0, le=30.0), Neutral(1.5)] = 1.5
    """Largest speed that is believed of an approaching surface [m/s]."""
    range: float = Field(8.0, gt=0.5, le=50.0)
    """Sensing radius [m]; surfaces beyond it are not seen."""
    length: Annotated[float, Field(gt=0.0, le=100.0), Neutral(1.0)] = 1.0
    """What networks and their training compare distances [m], and speeds per second, with: 1 suits a range of about
    8 m and speeds of some m/s."""
    neighbours: int = Field(8, ge=1, le=64)
    """Nodes of the graph: the nearest surface points kept."""
    drones: Annotated[int, Field(ge=1, le=64), Neutral(12)] = 12
    """Other drones of a swarm that are perceived: the nearest ones within ``range``."""
    lookahead: float = Field(0.6, ge=0.0, le=5.0)
    """Nodes are ranked by their distance this long ahead at the present closing speed [s]; 0 ranks by distance."""
    estimator: Literal["raw", "predictor_corrector", "kalman"] = "kalman"
    """``raw`` uses each observation as it is; ``predictor_corrector`` corrects a model prediction with the constant
    ``gain``; ``kalman`` with the Kalman gain for the sensor's noise and ``bias_drift``."""
    gain: float = Field(0.15, gt=0.0, le=1.0)
    """Correction gain of the predictor-corrector; 1 uses each observation as it is."""
    bias_gain: float = Field(0.006, ge=0.0, le=0.5)
    """Gain of the predictor-corrector for unexplained acceleration (wind); 0 assumes still air."""
    bias_spread: float = Field(0.3, ge=0.0, le=10.0)
    """Standard deviation of the unexplained acceleration expected by ``kalman`` at take-off [m/s^2]."""
    bias_drift: float = Field(0.03, ge=0.0, le=10.0)
    """Random-walk rate of that acceleration [m/s^2 per square root of a second]."""
    surfaces: Literal["raw", "tracked", "judged"] = "tracked"
    """``raw`` uses each surface point as read; ``tracked`` fits balls and upright cylinders over time
    (perception/surface_map.py); ``judged`` does so where they explain what is read, and takes other surfaces (boxes,
    beams, the ground) as read."""
    surface_radius: float = Field(0.25, gt=0.0, le=10.0)
    """Radius of curvature expected of a new surface [m]."""
    surface_radius_spread: float = Field(0.1, gt=0.0, le=10.0)
    """Standard deviation of that radius [m]."""
    surface_drift: float = Field(0.01, ge=0.0, le=1.0)
    """Random-walk rate of fitted surfaces [m per square root of a second]; 0 weights all readings equally."""

    @model_validator(mode="after")
    def _pools_evenly(self) -> Self:
        factor = self.depth_width // 16
        if (self.depth_width, self.depth_height) != (16 * factor, 12 * factor):
            raise ValueError(
                f"sensor.depth_width = {self.depth_width}, sensor.depth_height = {self.depth_height}: the image is "
                "pooled to 16 by 12; take 16 n by 12 n, such as 32 by 24"
            )
        return self
