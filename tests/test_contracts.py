"""Contracts on imports leave nothing out: estimator modules are pure or known shells, tests import no tests."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHELLS = frozenset(
    {
        # Read weights, recorded requests, tables of measurements, or tokenizers.
        "estimator.choice",
        "estimator.dataset.__main__",
        "estimator.dataset.aiconfigurator",
        "estimator.dataset.csv_file",
        "estimator.dataset.llm_pilot",
        "estimator.dataset.mixed_batches",
        "estimator.dataset.parquet",
        "estimator.dataset.plain_yaml",
        "estimator.kernels.library",
        "estimator.kernels.weights",
        "estimator.length_report",
        "estimator.length_traces",
        "estimator.tokenizer_file",
        # Fit, write weights and priors, evaluate.
        "estimator.evaluate",
        "estimator.train.__main__",
        "estimator.train.files",
        "estimator.train.fit",
        "estimator.train.fitter",
        "estimator.train.tables",
        "estimator.train_length",
    }
)
"""Modules, and packages with all below, that do I/O or call what does. Whatever else `estimator` holds is pure."""


def modules() -> Iterator[str]:
    for path in sorted((ROOT / "estimator").rglob("*.py")):
        if path.stem != "__init__":
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts)


def pure() -> set[str]:
    contract = ConfigParser()
    contract.read(ROOT / ".importlinter", encoding="utf-8")
    return set(contract["importlinter:contract:pure"]["source_modules"].split())


def covered(module: str, names: set[str] | frozenset[str]) -> bool:
    """Whether `names` holds a module or a package above it."""
    parts = module.split(".")
    return any(".".join(parts[:length]) in names for length in range(1, len(parts) + 1))


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, `from package import name` as both of what it may be."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_module_of_the_estimator_is_held_pure_or_a_known_shell() -> None:
    known = pure()
    unknown = [one for one in modules() if not covered(one, known) and not covered(one, SHELLS)]
    assert unknown == [], "add each to the purity contract in .importlinter, or to SHELLS if it does I/O"


def test_no_module_is_both_and_none_is_gone() -> None:
    known, present = pure(), list(modules())
    assert {one for one in SHELLS if covered(one, known)} == set()
    estimators = {one for one in known if one.startswith("estimator.")}
    assert {one for one in SHELLS | estimators if not any(covered(module, {one}) for module in present)} == set()


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_tests_share_is_in_modules_of_its_own(path: Path) -> None:
    parts = [name.split(".") for name in imported(path) if name.startswith("tests.")]
    assert [".".join(one) for one in parts if any(part.startswith("test_") for part in one)] == []


HEAVY = ("litellm", "fastapi", "torch", "numpy", "pandas", "scipy", "pyarrow", "openai")
ENTRIES = {
    "the gateway": ("gateway", "gateway.worker", "gateway.supervisor"),
    "its scheduler inside a LiteLLM proxy": ("gateway.plugin.front", "weighbridge.litellm_plugin"),
    "the command line": ("weighbridge.cli",),
    "the autoscaler": ("autoscaler", "autoscaler.loop", "weighbridge.scaling"),
    "the estimator": ("estimator", "estimator.choice", "estimator.price"),
    "the backlog": ("backlog", "backlog.store"),
}


@pytest.mark.parametrize("names", ENTRIES.values(), ids=ENTRIES.keys())
def test_no_process_that_serves_or_scales_loads_what_only_others_need(names: tuple[str, ...]) -> None:
    code = f"import sys, {', '.join(names)}; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []
