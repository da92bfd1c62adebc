"""The filter with several rows: against enumeration and certificates in float64, one row, and another solver."""

import jax
import numpy as np
import pytest

from drone_cbf.config import FilterConfig
from drone_cbf.errors import ConfigError
from drone_cbf.safety import Status, make_rows_filter
from tests.safety import reference, rows_reference
from tests.safety.harness import run as run_one_row
from tests.safety.rows_harness import FALLBACK, run

PENALTY = FilterConfig().penalty
TOLERANCE = 2e-4
"""[m/s^2] of a command in float32. Largest errors seen: 1e-5 where rows are met, and 1.7e-4 where opposed rows are
relaxed, whose caps of 1000 round to 6e-5 each."""
CERTIFIED = 2e-5
"""[m/s^2]: the largest error that costs in float64, of up to 1e4, can rule out."""
UNBOUNDED = ("huge offset",)
"""Families whose costs are too large to certify anything."""


@pytest.fixture(scope="module")
def families():
    """15 families of 700 problems with 8 rows."""
    return rows_reference.adversarial_families(700, 8, seed=0)


@pytest.fixture(scope="module")
def problems(families):
    return rows_reference.concatenate(families.values())


@pytest.fixture(scope="module")
def answers(problems):
    return run(FilterConfig(), problems)


@pytest.fixture(scope="module")
def precise(problems):
    """In float64."""
    with jax.enable_x64(True):
        return run(FilterConfig(), problems.astype(np.float64))


def test_commands_equal_those_of_enumeration(double_precision):
    parts = rows_reference.adversarial_families(2, 3, seed=1)
    p = rows_reference.concatenate([part for name, part in parts.items() if name not in UNBOUNDED])
    p = p.astype(np.float64)
    np.testing.assert_allclose(run(FilterConfig(), p).command, rows_reference.solve(p, PENALTY), atol=1e-9)


def test_no_admissible_command_is_cheaper(families, precise):
    """Multipliers and command certify each other, whatever computed them: their costs enclose the best."""
    for index, (name, p) in enumerate(families.items()):
        if name not in UNBOUNDED:
            part = slice(700 * index, 700 * (index + 1))
            command, multiplier = precise.command[part], precise.multiplier[part]
            assert rows_reference.largest_error(p, command, multiplier, PENALTY).max() <= CERTIFIED, name


def test_single_precision_is_within_tolerance_of_double_precision(problems, answers, precise):
    assert len(problems.offset) >= 10_000
    assert not np.any(answers.status == Status.FALLBACK)
    assert np.abs(answers.command - precise.command).max() <= TOLERANCE
    met = precise.status != Status.RELAXED
    assert np.quantile(np.abs(answers.command - precise.command)[met].max(axis=-1), 0.999) <= 1e-5


def test_commands_stay_within_the_limits_and_everything_is_finite(problems, answers):
    assert np.all(answers.command >= problems.lower)
    assert np.all(answers.command <= problems.upper)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(answers))


def test_slack_is_what_the_command_misses_and_decides_the_status(problems, answers):
    p = problems.astype(np.float64)
    missed = np.where(p.mask, p.offset - rows_reference.reached(p.normal, answers.command.astype(float)), 0.0)
    tolerance = 5e-4 * p.size + 1e-6 * np.abs(p.offset)
    assert np.all(missed <= answers.slack + tolerance)
    assert np.all(answers.slack <= np.maximum(missed, 0.0) + tolerance)
    given = np.any(answers.slack > np.minimum(np.float32(1e-4), np.float32(5e-4) * problems.size), axis=-1)
    np.testing.assert_array_equal(answers.status == Status.RELAXED, given)


def test_no_slack_is_given_where_a_command_meets_all_rows_at_an_affordable_price(families, problems, answers):
    names = ("one point", "tiny normal", "huge normal", "at a corner", "ties")
    for index, (name, p) in enumerate(families.items()):
        if name in names:
            part = slice(700 * index, 700 * (index + 1))
            affordable = answers.multiplier[part].max(axis=-1) < 0.99 * PENALTY
            assert affordable.mean() > 0.5
            assert np.all(answers.slack[part][affordable] <= 1e-4 * np.maximum(p.size[affordable], 1.0)), name


@pytest.mark.parametrize("penalty", [PENALTY, 1.0])
def test_one_row_gives_the_command_of_the_filter_with_one_row(penalty):
    p = reference.concatenate(reference.adversarial_families(150, seed=3))
    config = FilterConfig(penalty=penalty)
    rows = rows_reference.Problems(
        p.normal[:, None], p.offset[:, None], np.ones((len(p.offset), 1), bool), p.nominal, p.lower, p.upper
    )
    several, single = run(config, rows), run_one_row(config, p)
    difference = np.abs(several.command - single.command).max(axis=-1)
    # A row that is missed by its rounding counts as met, and only an axis with a small coefficient may be free.
    assert np.quantile(difference, 0.997) <= 1e-4
    assert difference.max() <= 5e-3
    tolerance = 1e-4 * p.size + 1e-6 * np.abs(p.offset)
    assert np.all(np.abs(several.slack[:, 0] - single.slack) <= tolerance)
    assert np.mean(several.status == single.status) >= 0.998
    smooth = reference.smooth(p, penalty)
    np.testing.assert_allclose(several.multiplier[smooth, 0], single.multiplier[smooth], rtol=1e-3, atol=1e-4)


def test_the_order_of_rows_changes_nothing(problems, answers):
    order = np.random.default_rng(4).permutation(8)
    again = run(FilterConfig(), problems.rows(order))
    assert np.abs(again.command - answers.command).max() <= TOLERANCE
    unique = answers.status == Status.INTERVENED
    difference = np.abs(again.slack - answers.slack[:, order]) / np.maximum(problems.size[:, order], 1.0)
    assert difference[unique].max() <= TOLERANCE


def test_duplicates_of_rows_change_nothing_where_all_rows_are_met(problems, answers):
    twice = problems.rows(np.arange(8) % 4)
    masked = problems.rows(np.arange(8) % 4)
    masked.mask[:, 4:] = False
    single, double = run(FilterConfig(), masked), run(FilterConfig(), twice)
    met = (single.status != Status.RELAXED) & (single.multiplier.max(axis=-1) < 0.99 * PENALTY)
    assert met.sum() > 5_000
    assert np.abs(double.command - single.command)[met].max() <= 1e-4


def test_masked_rows_change_nothing_whatever_they_hold(problems):
    p = problems[::20]
    masked = p.rows(np.arange(8))
    masked.mask[:, ::2] = False
    rubbish = masked.rows(np.arange(8))
    rubbish.normal[:, ::2], rubbish.offset[:, ::2] = np.nan, np.inf
    first, second = run(FilterConfig(), masked), run(FilterConfig(), rubbish)
    for leaf, other in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(leaf, other)
    assert not first.slack[:, ::2].any()
    assert not first.multiplier[:, ::2].any()


def test_each_status_is_reported_with_the_command_it_promises():
    limit = np.array([[9.0, 9.0, 7.0]])
    rows = {
        Status.NOMINAL: ([[1.0, 0, 0], [0, 1.0, 0]], [-1.0, -1.0], [0.5, 9.0, 0.0]),
        Status.INTERVENED: ([[2.0, 0, 0], [0, 0, 1.0]], [4.0, 3.0], [2.0, 9.0, 3.0]),
        Status.RELAXED: ([[1.0, 0, 0], [0, 0, 1.0]], [12.0, 3.0], [9.0, 9.0, 3.0]),
        Status.NO_AUTHORITY: ([[1e-5, 0, 0], [0, 0, 1.0]], [1.0, 3.0], [0.5, 9.0, 3.0]),
        Status.FALLBACK: ([[np.nan, 0, 0], [0, 0, 1.0]], [1.0, 3.0], FALLBACK),
    }
    normal, offset, _ = (np.float32(x) for x in zip(*rows.values(), strict=True))
    n = len(rows)
    nominal, limits = np.tile(np.float32([[0.5, 12.0, 0.0]]), (n, 1)), np.tile(np.float32(limit), (n, 1))
    p = rows_reference.Problems(normal, offset, np.ones((n, 2), bool), nominal, -limits, limits)
    safe = run(FilterConfig(), p)
    assert safe.status.tolist() == [int(status) for status in rows]
    np.testing.assert_allclose(safe.command, [command for *_, command in rows.values()], atol=1e-5)
    np.testing.assert_allclose(safe.slack[2:4], [[3.0, 0.0], [1.0 - 5e-6, 0.0]], atol=1e-5)
    np.testing.assert_allclose(safe.multiplier[1], [1.5, 3.0], atol=1e-5)


def test_qpax_finds_the_same_commands():
    parts = rows_reference.adversarial_families(30, 4, seed=5)
    names = ("random", "no command meets all", "tiny normal", "nominal on a limit", "at a corner")
    p = rows_reference.concatenate([parts[name] for name in names]).astype(np.float64)
    with jax.enable_x64(True):
        exact, other = run(FilterConfig(), p), run(FilterConfig(solver="qpax"), p)
    np.testing.assert_allclose(other.command, exact.command, atol=1e-5)
    np.testing.assert_allclose(other.slack / p.size, exact.slack / p.size, atol=1e-3)
    assert np.mean(other.status == exact.status) > 0.95


def test_what_only_one_row_has_is_refused_with_a_remedy():
    with pytest.raises(ConfigError, match=r"filter.solver = projected_gradient .* exact or qpax"):
        make_rows_filter(FilterConfig(solver="projected_gradient"))
    with pytest.raises(ConfigError, match=r"filter.slack_penalty = quadratic .* linear"):
        make_rows_filter(FilterConfig(slack_penalty="quadratic"))
