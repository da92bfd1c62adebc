"""How values are chosen and trials judged: the sampler, the pruner and the ranges as Optuna takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from drone_cbf.tracking.studies.storage import SweepStudy
from projects.inputs.sweep_files import Choices, IntRange, Searched
from projects.sweeping.plan import SweepPlan

TO_COMPARE = 3
"""A trial is stopped by the median of at least so many others."""


def distributions(plan: SweepPlan) -> dict[str, BaseDistribution]:
    """The search space."""
    return {name: _distribution(searched) for name, searched in plan.settings.space.items()}


def _distribution(searched: Searched) -> BaseDistribution:
    if isinstance(searched, Choices):
        return CategoricalDistribution(searched.choices)
    if isinstance(searched, IntRange):
        return IntDistribution(searched.low, searched.high, log=searched.log, step=searched.step)
    return FloatDistribution(searched.low, searched.high, log=searched.log)


def studies(plan: SweepPlan, kept: SweepStudy) -> Callable[[int], optuna.Study]:
    """From the number of trials so far to the study that asks for the next.

    The sampler's seed is drawn from the sweep's and that number: processes draw different values, and a resumed sweep
    those that it would have drawn.
    """

    def study_of(number: int) -> optuna.Study:
        words = np.random.SeedSequence([plan.parameters.seed, number]).generate_state(1)
        return kept.open(sampler=_sampler(plan, int(words[0])), pruner=_pruner(plan))

    return study_of


def _sampler(plan: SweepPlan, seed: int) -> optuna.samplers.BaseSampler:
    if plan.parameters.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    at_random = max(4, plan.parameters.trials // 4)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=at_random, constant_liar=True)


def _pruner(plan: SweepPlan) -> optuna.pruners.BasePruner:
    kinds: dict[str, Callable[[], optuna.pruners.BasePruner]] = {
        "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=TO_COMPARE, n_min_trials=TO_COMPARE),
        "hyperband": optuna.pruners.HyperbandPruner,
        "none": optuna.pruners.NopPruner,
    }
    return kinds[plan.parameters.pruner]()


def importances(study: optuna.Study) -> dict[str, float]:
    """Share of each setting in the variance of the objective (functional ANOVA on a forest); empty for too few trials.

    Hutter, Hoos, Leyton-Brown: An efficient approach for assessing hyperparameter importance. ICML 2014.
    """
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    try:
        found: dict[str, Any] = optuna.importance.get_param_importances(study, evaluator=evaluator)
    except (ValueError, RuntimeError):  # fewer than two trials, or all of one value
        return {}
    shares = {name: float(share) for name, share in found.items()}
    return shares if all(map(np.isfinite, shares.values())) else {}
