"""The upper bound on a rate against its closed forms."""

import pytest
from scipy.stats import beta, binom

from drone_cbf.evaluation.statistics import rate_upper_bound


@pytest.mark.parametrize("trials", [1, 100, 1024, 10_000])
def test_after_no_event_the_bound_is_one_minus_the_root_of_the_risk(trials):
    assert rate_upper_bound(0, trials) == pytest.approx(1.0 - 0.01 ** (1.0 / trials), rel=1e-9)


@pytest.mark.parametrize(("events", "trials"), [(1, 10), (3, 1024), (200, 1024), (1023, 1024)])
@pytest.mark.parametrize("confidence", [0.9, 0.99])
def test_the_bound_is_the_quantile_of_the_beta_distribution(events, trials, confidence):
    bound = rate_upper_bound(events, trials, confidence)
    assert bound == pytest.approx(beta.ppf(confidence, events + 1, trials - events), rel=1e-6)
    assert binom.cdf(events, trials, bound) == pytest.approx(1.0 - confidence, rel=1e-4)


def test_when_everything_failed_the_bound_is_one():
    assert rate_upper_bound(7, 7) == 1.0
