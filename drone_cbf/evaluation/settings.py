"""Settings of an evaluation."""

from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import Field, model_validator

from drone_cbf.config import Fraction, GoalMode, SceneName, Section, refuse_repeats
from drone_cbf.sections import Neutral

NoiseLevel = Annotated[float, Field(ge=0.0, le=1.0)]
CruiseSpeed = Annotated[float, Field(gt=0.0, le=50.0)]
DroneCount = Annotated[int, Field(ge=2, le=4096)]


class EvaluationSettings(Section):
    """Matrix of scenarios, noise levels, kinds of goals, speeds, and sizes of swarms."""

    scenarios: tuple[SceneName, ...] = Field(("fixed_ring", "random_cloud", "forest"), min_length=1)
    """Scene families."""
    noise: tuple[NoiseLevel, ...] = Field((0.0, 0.02, 0.05), min_length=1)
    """Observation noise [m, m/s]."""
    goals: tuple[GoalMode, ...] = Field(("trained", "shifted", "random"), min_length=1)
    """``trained``: fixed goal of the family; ``shifted``: displaced; ``random``: a random clear place."""
    speeds: Annotated[tuple[CruiseSpeed, ...], Neutral(())] = ()
    """Cruise speeds [m/s]: each cell is flown at each of them. Empty: at ``objective.max_speed``."""
    drones: Annotated[tuple[DroneCount, ...], Neutral(())] = ()
    """Drones that fly at once: each cell of a family of swarms is flown with each number, at the same density
    (scenes/growth.py). Empty: with ``scene.drones`` alone."""
    augment: Fraction = 0.0
    """Displacement of obstacles and start velocity in every scene, as in a curriculum; 1 is up to 0.5 m along each axis
    and 1 m/s standard deviation."""
    rollouts: int = Field(1024, ge=1, le=1_000_000)
    """Flights per cell."""
    unfiltered_rollouts: int = Field(256, ge=1, le=1_000_000)
    """Flights per cell repeated without the filter, on the first of the same scenes; at most ``rollouts``."""
    horizon: int = Field(200, ge=1, le=2000)
    """Steps of a flight."""
    seed: int = Field(1000, ge=0, le=2**31 - 1)
    """Root of all randomness; differs from training seeds, so that scenes are new."""
    blend: Fraction = 1.0
    """1: neural barrier alone; 0: analytic barrier alone."""

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        refuse_repeated_cells(self.scenarios, self.noise, self.goals)
        refuse_repeats("speeds", [f"{speed:g}" for speed in self.speeds])
        refuse_repeats("drones", self.drones)
        return self


def refuse_repeated_cells(scenarios: Sequence[str], noise: Sequence[float], goals: Sequence[str]) -> None:
    """Raise ValueError if a cell of the matrix would be evaluated twice."""
    refuse_repeats("scenarios", scenarios)
    refuse_repeats("noise", [f"{level:g}" for level in noise])  # as in metric names
    refuse_repeats("goals", goals)
