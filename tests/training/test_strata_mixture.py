"""Mixtures of strata: exact shares, clear errors, and today's states where there is only one."""

import pytest
from pydantic import ValidationError

from drone_cbf.training.curriculum.strata_mixture import parse_strata, stratum_counts
from drone_cbf.training.settings import PretrainingSettings


def test_states_are_shared_out_exactly_and_within_one_of_the_proportion():
    weights = {"open": 0.35, "boundary": 0.2, "gap": 0.3, "corridor": 0.1, "high_speed": 0.05}
    for count in (0, 1, 7, 256, 1000):
        counts = stratum_counts(weights, count)
        assert sum(counts.values()) == count and list(counts) == list(weights)
        assert all(abs(counts[name] - count * weight) < 1.0 for name, weight in weights.items())
    assert stratum_counts({"gap": 3.0, "open": 1.0}, 8) == {"gap": 6, "open": 2}, "weights need not add up to one"


@pytest.mark.parametrize(
    ("strata", "message"),
    [
        (("gaps:1",), "strata: 'gaps' is not one of open, boundary, gap, corridor, high_speed"),
        (("gap:0.5", "gap:0.5"), "strata holds gap twice"),
        (("gap",), "the weight '' of gap is not a number above 0"),
        (("gap:0", "open:1"), "the weight '0' of gap is not a number above 0"),
        (("gap:nan",), "the weight 'nan' of gap is not a number above 0"),
        (("gap:0.001", "open:1"), "gives it none of the 256 sampled states of a batch; raise it"),
    ],
)
def test_a_wrong_mixture_is_refused_by_a_line_that_says_what_to_do(strata, message):
    with pytest.raises(ValidationError, match=message):
        PretrainingSettings(strata=strata)
    assert parse_strata(("gap:2", "open:1")) == {"gap": 2.0, "open": 1.0}


def test_a_stratum_needs_no_state_where_nothing_is_sampled():
    assert PretrainingSettings(policy_states=1.0).strata == ("open:1",)
