"""Statistics of many flights."""

from scipy.stats import binomtest


def rate_upper_bound(events: int, trials: int, confidence: float = 0.99) -> float:
    """One-sided Clopper-Pearson upper bound on a rate after ``events`` in ``trials`` (Clopper and Pearson 1934).

    With 0 events in 1,024 trials the 99 % bound is 0.0045.
    """
    test = binomtest(events, trials, alternative="less")
    return float(test.proportion_ci(confidence_level=confidence, method="exact").high)
