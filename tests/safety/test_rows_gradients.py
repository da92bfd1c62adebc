"""Gradients of the filter with several rows against central differences of enumeration, and their bounds."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from drone_cbf.config import FilterConfig
from drone_cbf.safety import Status
from tests.safety import rows_reference
from tests.safety.rows_harness import fields, jacobian, one, run
from tests.safety.rows_reference import Problems

K = 3
STEP = 1e-5
"""Relative to the row's size, or in m/s^2: enumeration is good to 1e-12, so differences are good to 1e-7."""
CONFIG = FilterConfig()
UNBOUNDED = ("huge offset", "huge normal")  # Differences of these are noise


def units(p: Problems) -> np.ndarray:
    """What changes of each input are measured in (n, 4 k + 3)."""
    return np.concatenate([np.repeat(p.size, 3, axis=1), p.size, np.ones((len(p.nominal), 3))], axis=1)


def moved(p: Problems, index: int, step: float) -> Problems:
    """With one input changed by ``step`` of its unit."""
    if index < 3 * K:
        return replace(p, normal=p.normal + step * p.size[..., None] * np.eye(3 * K)[index].reshape(K, 3))
    if index < 4 * K:
        return replace(p, offset=p.offset + step * p.size * np.eye(K)[index - 3 * K])
    return replace(p, nominal=p.nominal + step * np.eye(3)[index - 4 * K])


def differences(p: Problems) -> tuple[np.ndarray, np.ndarray]:
    """d command / d inputs, in units, (n, 3, 4 k + 3); and where the command bends within a step (n,)."""
    steps = [moved(p, index, sign * STEP) for index in range(4 * K + 3) for sign in (1.0, -1.0)]
    found = rows_reference.solve(rows_reference.concatenate([p, *steps]), CONFIG.penalty).reshape(-1, len(p.nominal), 3)
    middle, ahead, behind = found[0], found[1::2], found[2::2]
    bends = np.abs(ahead + behind - 2.0 * middle).max(axis=(0, 2)) > 1e-7
    return np.moveaxis((ahead - behind) / (2.0 * STEP), 0, -1), bends


@pytest.fixture(scope="module")
def few():
    parts = rows_reference.adversarial_families(4, K, seed=2)
    return rows_reference.concatenate([part for name, part in parts.items() if name not in UNBOUNDED])


@pytest.fixture(scope="module")
def expected(few):
    """Central differences, and where they hold: no bend, and far from where the gradient fades."""
    slopes, bends = differences(few.astype(np.float64))
    towards_offsets = np.abs(slopes[:, :, 3 * K : 4 * K] / few.size[:, None]).max(axis=(1, 2))
    return slopes, ~bends & (towards_offsets < 0.1 / CONFIG.authority)


def relative_error(p, gradient, expected):
    scale = 1e-3 + np.abs(expected).max(axis=(1, 2))
    return np.abs(gradient[:, :3] * units(p)[:, None] - expected).max(axis=(1, 2)) / scale


def test_gradients_equal_central_differences(few, expected, double_precision):
    slopes, certain = expected
    status = run(CONFIG, few.astype(np.float64)).status[certain]
    assert min(np.sum(status == Status.INTERVENED), np.sum(status == Status.RELAXED)) >= 3
    found = jacobian(CONFIG, few.astype(np.float64))
    assert relative_error(few, found, slopes)[certain].max() <= 1e-6


def test_gradients_in_single_precision_are_close_to_central_differences(few, expected):
    slopes, certain = expected
    error = relative_error(few, jacobian(CONFIG, few), slopes)[certain]
    assert np.quantile(error, 0.9) <= 1e-4
    assert error.max() <= 2e-2  # the worst has rows 1e-3 rad apart


def test_every_gradient_is_finite_and_bounded():
    p = rows_reference.concatenate(rows_reference.adversarial_families(60, K, seed=3).values())
    gradient = jacobian(CONFIG, p)
    assert np.isfinite(gradient).all()
    command = gradient[:, :3]
    rounding = 1.0 + 1e-2
    assert np.linalg.svd(command[:, :, 4 * K :], compute_uv=False).max() <= rounding
    assert np.linalg.norm(command[:, :, 3 * K : 4 * K], axis=1).max() <= rounding / CONFIG.authority
    answer = run(CONFIG, p)
    size, length = np.linalg.norm(answer.command, axis=1), np.linalg.norm(answer.command - p.nominal, axis=1)
    relaxed = (answer.multiplier >= 0.99 * CONFIG.penalty).sum(axis=1)
    bound = size + 2.0 * (length + 2.0 * relaxed * CONFIG.penalty) + 1e-3
    rows = command[:, :, : 3 * K].reshape(-1, 3, K, 3)
    assert np.all(np.linalg.norm(rows, 2, axis=(1, 3)).max(axis=1) <= rounding * bound / CONFIG.authority)


def test_masked_rows_pass_no_gradient_whatever_they_hold():
    p = rows_reference.random_problems(16, K, seed=6).astype(np.float32)
    p.mask[:, 1] = False
    p.normal[:, 1], p.offset[:, 1] = np.nan, np.inf
    gradient = jacobian(CONFIG, p)
    assert np.isfinite(gradient).all()
    assert not gradient[:, :, 3:6].any()
    assert not gradient[:, :, 3 * K + 1].any()


@pytest.mark.parametrize(
    ("mode", "to_nominal"),
    [("identity", np.eye(3)), pytest.param("stopped", np.zeros((3, 3)), marks=pytest.mark.slow)],
)
def test_gradient_modes_pass_what_they_say(mode, to_nominal):
    p = rows_reference.random_problems(16, K, seed=4).astype(np.float32)
    gradient = jacobian(FilterConfig(gradient=mode), p)
    np.testing.assert_array_equal(gradient[:, :3, 4 * K :], np.broadcast_to(to_nominal, (16, 3, 3)))
    assert not gradient[:, :, : 4 * K].any()
    assert not gradient[:, 3:].any()


def test_batches_of_batches_are_solved_and_differentiated_as_one_batch():
    p = rows_reference.random_problems(12, K, seed=5).astype(np.float32)

    def loss(nominal, others):
        normal, offset, _, mask, lower, upper = others
        safe = jax.vmap(jax.vmap(one(CONFIG)))(normal, offset, nominal, mask, lower, upper)
        return (safe.command**2).sum() + safe.slack.sum(), safe

    inputs = [leaf.reshape(3, 4, *leaf.shape[1:]) for leaf in fields(p)]
    gradient, safe = jax.jit(jax.grad(loss, has_aux=True))(inputs[2], inputs)
    flat, slopes = run(CONFIG, p), jacobian(CONFIG, p)
    np.testing.assert_allclose(safe.command.reshape(12, 3), flat.command, atol=1e-6)
    weight = np.concatenate([2.0 * flat.command, np.ones((12, K))], axis=1)
    np.testing.assert_allclose(
        gradient.reshape(12, 3), np.einsum("no,noi->ni", weight, slopes[:, :, 4 * K :]), rtol=1e-4, atol=1e-4
    )
