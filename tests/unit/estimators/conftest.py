"""What the estimators' unit tests share."""

import numpy as np
import pytest


@pytest.fixture
def rng():
    """A generator with a fixed seed, fresh for every test."""
    return np.random.default_rng(20261122)
