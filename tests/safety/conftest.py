"""Fixtures of the safety tests."""

import jax
import pytest


@pytest.fixture
def double_precision():
    """Float64 for the duration of one test."""
    with jax.enable_x64(True):
        yield
