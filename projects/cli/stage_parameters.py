"""The parameters of each entry point: exactly those that MLproject declares (a test compares them).

A default is written once: where a stage's settings are defined. Only what MLflow adds is new here: the parent run, the
curriculum's name, and what the pipeline hands to its stages.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from drone_cbf.config import Fraction, GoalMode, SceneName, Section, refuse_repeats
from drone_cbf.evaluation.settings import CruiseSpeed, DroneCount, EvaluationSettings, NoiseLevel, refuse_repeated_cells
from drone_cbf.sections import Neutral
from drone_cbf.training.settings import EfficiencySettings, PretrainingSettings, SafetySettings, without_blanks
from projects.cli.run_ids import OptionalRunId, RunId


class Resumable(Section):
    """What a stage takes that can be resumed."""

    resume_run: OptionalRunId = ""
    """ID of an interrupted run of this stage to resume, with its settings; leave the other parameters out."""


def refuse_repeated_seeds(seeds: tuple[int, ...]) -> tuple[int, ...]:
    refuse_repeats("seeds", seeds)
    return seeds


Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
Seeds = Annotated[
    tuple[Seed, ...],
    BeforeValidator(without_blanks),
    AfterValidator(refuse_repeated_seeds),
    Field(max_length=64),
    Neutral(()),
]


def refuse_both(seeds: tuple[int, ...], seed: int) -> None:
    """ValueError where a population is asked for and a single seed as well."""
    if seeds and seed:
        raise ValueError(f"seed = {seed} together with seeds = {','.join(map(str, seeds))}; leave one of them out")


class Populous(Resumable):
    """What a stage takes that can train several seeds at once."""

    seeds: Seeds = ()
    """Seeds of a population, in place of ``seed``: one compiled program trains all, each in a run of its own. A parent
    that is a population gives each seed the member of that seed."""

    @model_validator(mode="after")
    def _seed_or_seeds(self) -> Populous:
        refuse_both(self.seeds, getattr(self, "seed", 0))
        return self


class Following(Populous):
    """A training stage that builds on another."""

    parent_run: OptionalRunId = ""
    """ID of the finished run to build on."""

    @model_validator(mode="after")
    def _has_a_parent(self) -> Following:
        if not self.parent_run and not self.resume_run:
            purpose = (type(self).model_fields["parent_run"].description or "").rstrip(".")
            raise ValueError(f"parent_run is missing ({purpose}); give it with -P parent_run=<value>")
        return self


_EFFICIENCY, _PRETRAINING, _EVALUATION = EfficiencySettings(), PretrainingSettings(), EvaluationSettings()
_SAFETY = {name: field.default for name, field in SafetySettings.model_fields.items()}


class EfficiencyParameters(EfficiencySettings, Populous):
    """Trains a policy that flies, by back-propagation through the physics, without a safety filter."""


class PretrainParameters(PretrainingSettings, Following):
    """Trains the neural barrier against the analytic one, on sampled states and on states of the parent's policy."""

    parent_run: OptionalRunId = ""
    """ID of a finished efficiency run, whose policy visits the states."""
    init_run: OptionalRunId = ""
    """ID of a finished pretrain_cbf or safety run whose barrier is the start, with a new learning-rate schedule; empty:
    a barrier is trained from scratch."""


NoiseLevels = Annotated[tuple[NoiseLevel, ...], BeforeValidator(without_blanks)]
Fractions = Annotated[tuple[Fraction, ...], BeforeValidator(without_blanks)]
StepCounts = Annotated[tuple[Annotated[int, Field(ge=1, le=100_000)], ...], BeforeValidator(without_blanks)]


class SafetyParameters(SafetySettings, Following):
    """Trains policy and neural barrier jointly, through the safety filter, under a curriculum."""

    parent_run: OptionalRunId = ""
    """ID of a finished pretrain_cbf run (its ancestry holds the policy), or of a safety run to go on from."""
    curriculum: str = Field("default", min_length=1, max_length=1000)  # type: ignore[assignment]  # its name
    """Name of a file in projects/curricula, or a path to a YAML file."""
    noise_levels: NoiseLevels = ()
    """Observation noise of the curriculum's stages in place of its own [m, m/s]: one for each, or one for all."""
    blend_levels: Fractions = ()
    """Share of the neural barrier in the stages, likewise."""
    augment_levels: Fractions = ()
    """Displacement of obstacles and start velocity in the stages, likewise."""
    stage_steps: StepCounts = ()
    """Updates of the stages, likewise."""


class EvaluateParameters(EvaluationSettings):
    """Measures success, collisions, violations and the filter's work over scenarios, noise and goals."""

    examples: ClassVar[tuple[str, ...]] = (
        " -P parent_run=<run id>",
        " -P parent_run=<run id> -P seed=1 -P physics.lag_time=0.1",
        " -P parent_run=<run id> -P replay=<evaluate run>",
    )
    parent_run: RunId
    """ID of a finished run with a policy: efficiency, pretrain_cbf or safety."""
    speeds: Annotated[tuple[CruiseSpeed, ...], BeforeValidator(without_blanks), Neutral(())] = ()
    """Cruise speeds [m/s]: each cell is flown at each of them, which also gives success and collisions by speed as a
    figure. Empty: at ``objective.max_speed``."""
    drones: Annotated[tuple[DroneCount, ...], BeforeValidator(without_blanks), Neutral(())] = ()
    """Drones that fly at once: each cell of a family of swarms is flown with each number, in a world of the same
    density, which also gives success and collisions by number as a figure. Empty: with ``scene.drones`` alone."""
    replay: str = Field("", max_length=1000)
    """ID of an evaluate run, runs:/<run id>/<artifact> or an .npz file: its worst flights are flown again, behind the
    filter, in place of the matrix, with the blend and horizon of that time."""
    recordings: Annotated[tuple[Literal["mcap", "rrd"], ...], BeforeValidator(without_blanks), Neutral(())] = ()
    """Formats in which the flights that the viewer shows are uploaded too: mcap (Foxglove), rrd (Rerun). They need the
    extra recordings."""


def _last_or_fraction(text: str) -> str:
    """ValueError where ``text`` is neither ``last`` nor a number from 0 to 1."""
    with suppress(ValueError):
        if text == "last" or 0.0 <= float(text) <= 1.0:
            return text
    raise ValueError(
        f"blend = {text} is neither last nor a number from 0 to 1; set another value with -P blend=<value>"
    )


Blend = Annotated[str, AfterValidator(_last_or_fraction)]

Size = Annotated[int | None, BeforeValidator(lambda value: None if value == "" else value)]
Rate = Annotated[float | None, BeforeValidator(lambda value: None if value == "" else value)]
"""None where they are left to the curriculum."""
PIPELINE_SIZES = {
    "efficiency_steps": _EFFICIENCY.steps,
    "efficiency_learning_rate": _EFFICIENCY.learning_rate,
    "pretrain_steps": _PRETRAINING.steps,
    "batch": _EFFICIENCY.batch,
    "horizon": _EFFICIENCY.horizon,
    "evaluation_horizon": None,  # as `horizon`
    "report_flights": _SAFETY["report_flights"],
    "scenes": _EFFICIENCY.scenes,
    "rollouts": 512,
    **{name: getattr(_EVALUATION, name) for name in ("unfiltered_rollouts", "scenarios", "noise", "goals")},
}
"""Settings of a pipeline where neither the command line nor the curriculum says otherwise."""


class PipelineParameters(Populous):
    """Runs efficiency, pretrain_cbf, safety and evaluate as children of one run.

    A size that is left out is the one in the curriculum's ``pipeline`` section, else the default.
    """

    sizes: ClassVar = PIPELINE_SIZES
    curriculum: str = Field("default", min_length=1, max_length=1000)
    """Curriculum of the safety stage: a name in projects/curricula, or a path to a YAML file."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Root of all randomness of the three training stages."""
    seeds: Seeds = ()
    """Seeds of a population, in place of ``seed``: trained at once, each with a chain of runs and an evaluation of its
    own."""
    efficiency_steps: Size = Field(None, ge=1, le=100_000)
    """Updates of the efficiency stage."""
    efficiency_learning_rate: Rate = Field(None, gt=0.0, le=1.0)
    """Peak learning rate of the efficiency stage."""
    pretrain_steps: Size = Field(None, ge=1, le=1_000_000)
    """Updates of the pretrain_cbf stage."""
    batch: Size = Field(None, ge=1, le=4096)
    """Flights per update of the efficiency and safety stages."""
    horizon: Size = Field(None, ge=1, le=2000)
    """Steps of a flight in the other stages; the curriculum's stages have their own."""
    evaluation_horizon: Size = Field(None, ge=1, le=2000)
    """Steps of a flight in the evaluate stage; left out, ``horizon``."""
    report_flights: Size = Field(None, ge=1, le=100_000)
    """Fresh flights with which every training stage measures and calibrates what it trains."""
    scenes: Annotated[tuple[SceneName, ...], BeforeValidator(without_blanks)] = ()
    """Scene families of the training stages."""
    rollouts: Size = Field(None, ge=1, le=100_000)
    """Flights per cell of the evaluate stage; 512 are 13,824 in all: enough for the shipped gate, if none collides."""
    unfiltered_rollouts: Size = Field(None, ge=1, le=100_000)
    """Flights per cell once more without the filter."""
    scenarios: Annotated[tuple[SceneName, ...], BeforeValidator(without_blanks)] = ()
    """Scene families of the evaluate stage."""
    noise: NoiseLevels = ()
    """Observation noise of the evaluate stage [m, m/s]."""
    goals: Annotated[tuple[GoalMode, ...], BeforeValidator(without_blanks)] = ()
    """Kinds of goals of the evaluate stage."""
    blend: Blend = "last"
    """Share of the neural barrier in the evaluate stage, 0 to 1; ``last``: that of the curriculum's last stage."""
    resume_run: OptionalRunId = ""
    """ID of an interrupted or failed pipeline to go on with, at the stage and step where it was; leave the other
    parameters out."""


CurriculumName = Annotated[str, Field(min_length=1, max_length=1000)]


class SuiteParameters(Resumable):
    """Trains and evaluates every curriculum with every seed, as children of one run, and compares them.

    Finished runs with the same settings and parent are reused, so a suite that was stopped, or in which something
    failed, continues where it was when it is started again. Where parent_run is left out,
    efficiency and pretrain_cbf are trained first, once for all.
    """

    examples: ClassVar[tuple[str, ...]] = (
        " -P curricula=analytic_baseline,default -P seeds=0,1,2 -P dry_run=true",
        " -P parent_run=<pretrain_cbf run> -P curricula=analytic_baseline,default -P seeds=0,1,2",
        " -P seeds=0,1,2,3 -P workers=8 -P cluster=ray",
    )
    parent_run: OptionalRunId = ""
    """ID of a finished pretrain_cbf (or safety) run that all children start from; empty: one is trained first."""
    curricula: tuple[CurriculumName, ...] = Field(("analytic_baseline", "hybrid", "default"), min_length=1)
    """Names in projects/curricula, or paths to YAML files."""
    seeds: tuple[Seed, ...] = Field((0, 1, 2), min_length=1)
    """Seeds of the safety stage; every evaluation flies the same scenes."""
    batch: int = Field(_SAFETY["batch"], ge=1, le=4096)
    """Flights per update of the training stages."""
    barrier_task_gradient: Fraction = _SAFETY["barrier_task_gradient"]
    """Weight of the task gradient that reaches the barrier through the filter, in the safety stage."""
    horizon: int = Field(_EFFICIENCY.horizon, ge=1, le=2000)
    """Steps of a flight in efficiency and evaluate; a curriculum sets the safety stage's."""
    scenarios: tuple[SceneName, ...] = Field(_EVALUATION.scenarios, min_length=1)
    """Scene families of the evaluations."""
    noise: tuple[NoiseLevel, ...] = Field(_EVALUATION.noise, min_length=1)
    """Observation noise of the evaluations [m, m/s]."""
    goals: tuple[GoalMode, ...] = Field(_EVALUATION.goals, min_length=1)
    """Kinds of goals of the evaluations."""
    rollouts: int = Field(_EVALUATION.rollouts, ge=1, le=100_000)
    """Flights per cell of the evaluations."""
    blend: Blend = "last"
    """Share of the neural barrier in the evaluations, 0 to 1; ``last``: that of the curriculum's last stage."""
    efficiency_steps: int = Field(_EFFICIENCY.steps, ge=1, le=100_000)
    """Updates of the shared efficiency stage; nothing where parent_run is given."""
    pretrain_steps: int = Field(_PRETRAINING.steps, ge=1, le=1_000_000)
    """Updates of the shared pretrain_cbf stage; nothing where parent_run is given."""
    shared_seed: Seed = 0
    """Seed of the two shared stages; nothing where parent_run is given."""
    dry_run: bool = False
    """true: print what would be trained and what is there already, and train nothing."""
    reuse: bool = True
    """false: train everything anew, whatever is there."""
    population: Annotated[Literal["auto", "off"], Neutral("off")] = "auto"
    """``auto``: the seeds of a curriculum are trained at once, by one compiled program, unless there are more workers
    than curricula; ``off``: one after the other."""
    workers: Annotated[int, Field(ge=1, le=64), Neutral(1)] = 1
    """Processes that carry out children side by side."""
    cluster: Annotated[Literal["none", "ray"], Neutral("none")] = "none"
    """Where they run: on this machine, or as tasks of the Ray cluster that ``RAY_ADDRESS`` names (without it: one that
    is started here), each with its share of the cores. A lost one is replaced. Needs the extra 'ray'."""
    resume_run: OptionalRunId = ""
    """ID of an interrupted or failed suite to go on with, where it was; leave the other parameters out."""

    @model_validator(mode="after")
    def _each_once(self) -> SuiteParameters:
        refuse_repeats("curricula", self.curricula)
        refuse_repeats("seeds", self.seeds)
        refuse_repeated_cells(self.scenarios, self.noise, self.goals)
        return self
