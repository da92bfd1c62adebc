"""Derivatives of barriers in float64, for comparison with closed forms and central differences."""

import functools

import jax
import pytest

from drone_cbf.barrier.rows import slopes


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    """For the tests of every module that imports it."""
    with jax.enable_x64(True):
        yield


@functools.partial(jax.jit, static_argnums=0)
def slopes_of(barrier, graph):
    return slopes(barrier, graph)
