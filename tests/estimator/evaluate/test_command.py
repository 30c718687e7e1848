"""`python -m estimator.evaluate`: what it cannot measure it says, as JSON and by its status."""

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from estimator.evaluate.__main__ import main

ROOT = Path(__file__).parents[3]
DATA = ROOT.parent / "shared/data"


def test_without_input_nothing_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--part", "run", "--part", "tokens", "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert report["figures"] == []
    assert report["left_out"] == {"run": "no --data is given", "tokens": "no --data is given"}


def test_a_package_that_is_not_there_has_no_version(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("estimator.dataset.aiconfigurator.data_folder", lambda: None)
    monkeypatch.setattr("estimator.evaluate.__main__.version", _no_version)
    assert main(["--part", "kernels", "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert report["versions"]["aiconfigurator-core"] is None
    assert "aiconfigurator-core" in report["left_out"]["kernels"]


def _no_version(name: str) -> str:
    raise PackageNotFoundError(name)


def test_parts_without_measurements_say_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("estimator.dataset.aiconfigurator.data_folder", lambda: tmp_path)
    assert main(["--part", "mixed", "--json"]) == 2
    assert "nothing to judge it by" in json.loads(capsys.readouterr().out)["left_out"]["mixed"]
    assert main(["--part", "mixed", "--data", str(tmp_path / "typo"), "--json"]) == 2
    assert "no folder mixed_batches in it" in json.loads(capsys.readouterr().out)["left_out"]["mixed"]


def test_a_folder_without_measurements_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--part", "length", "--data", str(tmp_path)]) == 2
    assert str(tmp_path / "traces") in capsys.readouterr().err.replace("\n", "")


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no measurements at {DATA}")
@pytest.mark.timeout(240)
def test_a_figure_as_a_shell_gets_it() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "estimator.evaluate", "--part", "run", "--data", str(DATA), "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    measures = {figure["measure"]: figure for figure in report["figures"]}
    assert set(measures["simulated over recorded TTFT p50"]) >= {"value", "low", "high", "met", "baselines"}
    assert report["versions"]["torch"]
