"""A fitter that runs in the test's own process."""

import pytest

from estimator.train.fitter import Fitter
from tests.estimator.train.products import AtOnce


@pytest.fixture
def at_once() -> Fitter:
    return Fitter(AtOnce())
