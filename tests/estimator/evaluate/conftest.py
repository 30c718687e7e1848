"""These tests need the `[train]` extra, as those of `estimator.dataset` do."""

from tests.estimator.dataset.conftest import pytest_pycollect_makemodule

__all__ = ["pytest_pycollect_makemodule"]
