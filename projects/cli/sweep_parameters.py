"""The parameters of the entry point ``sweep``: exactly those that MLproject declares (a test compares them)."""

from __future__ import annotations

import warnings
from typing import ClassVar, Literal

from pydantic import Field

from projects.cli.run_ids import OptionalRunId
from projects.cli.stage_parameters import Resumable, Seed

with warnings.catch_warnings():  # ``register`` is also a method of pydantic's metaclass, which settings do not use
    warnings.filterwarnings("ignore", 'Field name "register"')

    class SweepParameters(Resumable):
        """Searches settings: trains and evaluates trial after trial, each with other values, and says what matters.

        What is searched stands in a YAML file: names, types and ranges of settings, what counts as better, and by
        which figure trials that lag behind are stopped early. projects/sweeps/fast.yaml explains every line of one.

        Each trial trains through the ordinary stages, nested in a child run that holds its values. A trial that fails
        is counted and left behind. The search (Optuna) remembers everything in the runs themselves, so a sweep that
        was killed goes on where it was, also in trials that were under way. Needs the extra 'sweep':
        pip install -e '.[sweep]' -c constraints.txt
        """

        examples: ClassVar[tuple[str, ...]] = (
            " -P space=fast -P curriculum=fast -P trials=6 -P dry_run=true",
            " -P space=fast -P curriculum=fast -P trials=6 -P workers=2",
            " -P space=mine.yaml -P parent_run=<pretrain_cbf run> -P trials=24 -P workers=2 -P register=true",
            " -P space=mine.yaml -P trials=24 -P workers=8 -P cluster=ray",
            " -P resume_run=<killed sweep run>",
        )
        space: str = Field("fast", min_length=1, max_length=1000)
        """What is searched: a name in projects/sweeps, or a path to a YAML file."""
        curriculum: str = Field("default", min_length=1, max_length=1000)
        """Curriculum of the safety stage, and the pipeline's sizes: a name in projects/curricula, or a path to a YAML
        file."""
        parent_run: OptionalRunId = ""
        """ID of a finished pretrain_cbf (or safety) run that every trial starts from; empty: the stages before the
        first one that the search touches are trained once, for all trials."""
        trials: int = Field(24, ge=1, le=1000)
        """Trials in all, stopped and failed ones included."""
        workers: int = Field(1, ge=1, le=64)
        """Processes that carry out trials side by side."""
        cluster: Literal["none", "ray"] = "none"
        """Where they run: on this machine, or as tasks of the Ray cluster that ``RAY_ADDRESS`` names (without it: one
        that is started here), each with its share of the cores. A lost one is replaced. Needs the extra 'ray'."""
        sampler: Literal["tpe", "random"] = "tpe"
        """How values are chosen: ``tpe`` learns from earlier trials (tree-structured Parzen estimator), after a quarter
        of the trials, at least 4, drawn at random; ``random``: all are."""
        pruner: Literal["median", "hyperband", "none"] = "median"
        """Which trials are stopped early, by the figure that the file names: ``median``, those worse than the median of
        the others at the same step, once 3 have got there; ``hyperband``: successive halving in several brackets."""
        register: bool = False
        """true: the best trial becomes a version of drone-policy (@challenger), and @champion if it passes the gate."""
        seed: Seed = 0
        """Root of all randomness, of the search and of every training."""
        dry_run: bool = False
        """true: check the file, print what would be searched and trained, and train nothing."""
        resume_run: OptionalRunId = ""
        """ID of an interrupted or failed sweep to go on with, where it was; leave the other parameters out."""
