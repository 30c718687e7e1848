"""`weighbridge spill` and what `weighbridge gateway` says where it cannot be started."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.weighbridge.commands import invoke
from weighbridge import cli
from weighbridge.spill.command import register

POOL = "models: [m], architecture: llama-3.1-8b, gpu: L40S, replicas: {static: ['http://127.0.0.1:9']}"
SPILL = "spill: {model: azure/small, money_per_day: 1}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(f"pools: {{chat: {{{POOL}, {SPILL}}}}}\ntenants: {{t: {{keys: [k], spill: true}}}}")
    return path


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        pytest.param(f"pools: {{chat: {{{POOL}}}}}", "no pool has spill", id="nothing spills"),
        pytest.param("pools: {", "not valid YAML", id="broken"),
    ],
)
def test_what_cannot_be_served_is_said(file: Path, text: str, rule: str) -> None:
    file.write_text(text)
    result = invoke(register, "-c", str(file), "--socket", str(file.parent / "s"))
    assert (result.exit_code, rule in result.stderr) == (2, True)


def test_a_log_level_that_does_not_exist_is_a_mistake(file: Path) -> None:
    result = invoke(register, "-c", str(file), "--socket", "s", "--log-level", "loud")
    assert (result.exit_code, "--log-level loud" in result.stderr) == (2, True)


def test_a_gateway_whose_pools_spill_needs_the_extra(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str, package: Any = None) -> None:
        assert name == "litellm"

    monkeypatch.setattr("importlib.util.find_spec", none)
    result = CliRunner().invoke(cli.app, ["gateway", "-c", str(file)])
    assert result.exit_code == 2
    assert "pools.chat.spill needs LiteLLM's SDK: pip install 'weighbridge[litellm]'" in result.stderr
