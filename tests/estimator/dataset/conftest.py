"""These tests need the `[train]` extra: without it they are skipped, and fail where CI is set."""

import os
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import pytest

NEEDED = ("numpy", "pyarrow", "aiconfigurator_core")


class Untrained(pytest.Module):
    """Stands in for a module that cannot be imported."""

    def collect(self) -> Iterable[pytest.Item]:
        if os.environ.get("CI"):
            pytest.fail("CI must have the [train] extra")
        pytest.skip("needs the [train] extra", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    if all(find_spec(name) for name in NEEDED):
        return None
    return Untrained.from_parent(parent, path=module_path)
