"""`weighbridge doctor` as a shell sees it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.redis_servers import free_port
from weighbridge.doctor.interpreter import ask_interpreter, proxy_python
from weighbridge.wiring import command_line

KEY = "sk-" + "0123456789abcdef" * 2
PROXY = """
model_list:
- {model_name: m, litellm_params: {model: hosted_vllm/llama-3.1-8b, api_base: "http://127.0.0.1:PORT/v1"}}
litellm_settings: {callbacks: ["gateway.litellm_plugin.handler"], sse_keepalive_ping_interval_seconds: 10}
router_settings: {disable_cooldowns: true}
general_settings: {master_key: os.environ/LITELLM_MASTER_KEY, cancel_on_disconnect: true}
redis: {url: "redis://127.0.0.1:PORT"}
"""


def doctor(*words: str, **env: str) -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in os.environ.items() if name not in ("WEIGHBRIDGE_CONFIG", "WORKER_CONFIG")}
    command = command_line("doctor", *words)
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={**kept, "LITELLM_MASTER_KEY": KEY, **env}
    )


@pytest.fixture
def proxy(tmp_path: Path) -> Path:
    file = tmp_path / "config.yaml"
    file.write_text(PROXY.replace("PORT", str(free_port())))
    return file


def test_a_sound_file_ends_with_0_and_names_what_was_not_asked(proxy: Path) -> None:
    result = doctor("--litellm", str(proxy), "--no-network", "--python", sys.executable)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "unknown  network" in result.stdout
    assert result.stdout.rstrip().split("\n")[-1].startswith("0 to change, ")
    assert KEY not in result.stdout


def test_warnings_end_with_1_under_strict(proxy: Path) -> None:
    proxy.write_text(proxy.read_text().replace(", sse_keepalive_ping_interval_seconds: 10", ""))
    words = ("--litellm", str(proxy), "--no-network")
    assert doctor(*words).returncode == 0
    assert doctor(*words, "--strict").returncode == 1


def test_what_must_change_ends_with_1_and_is_printed_as_yaml(proxy: Path) -> None:
    proxy.write_text(proxy.read_text().replace(", cancel_on_disconnect: true", ""))
    result = doctor("--litellm", str(proxy), "--no-network")
    assert result.returncode == 1
    assert "-> general_settings:" in result.stdout
    assert "cancel_on_disconnect: true" in result.stdout


def test_what_is_away_is_found_and_printed_as_one_json_object(proxy: Path) -> None:
    result = doctor("--litellm", str(proxy), "--json", "--timeout-s", "2")
    assert result.returncode == 1
    told = json.loads(result.stdout)
    errors = [each["check"] for each in told["findings"] if each["severity"] == "error"]
    assert errors == ["redis", "replica"]
    assert told["to_change"] == 2


def test_a_configuration_that_the_gateway_refuses_is_a_finding(proxy: Path) -> None:
    proxy.write_text(proxy.read_text() + "pools: {q: {gpu: L41S}}\n")
    result = doctor("--litellm", str(proxy), "--json")
    assert result.returncode == 1
    whats = [each["what"] for each in json.loads(result.stdout)["findings"] if each["check"] == "configuration"]
    assert "pools.q.gpu = 'L41S': unknown GPU; did you mean 'L40S'?" in whats


def test_a_variable_that_is_not_set_is_to_be_exported(proxy: Path) -> None:
    proxy.write_text(proxy.read_text().replace("LITELLM_MASTER_KEY", "DOCTOR_KEY"))
    result = doctor("--litellm", str(proxy), "--no-network")
    assert result.returncode == 1
    assert "-> export DOCTOR_KEY=VALUE" in result.stdout


def test_a_file_of_the_plugins_name_beside_the_config_is_an_error(proxy: Path) -> None:
    (proxy.parent / "gateway").mkdir()
    (proxy.parent / "gateway" / "litellm_plugin.py").write_text("")
    result = doctor("--litellm", str(proxy), "--no-network")
    assert result.returncode == 1
    assert "LiteLLM runs that file" in result.stdout


def test_a_configuration_of_weighbridge_alone_is_checked_without_litellm(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        "pools: {chat: {models: [m], architecture: llama-3.1-8b, gpu: L40S, replicas: {static: ['http://127.0.0.1:9']}}}"
        "\ntenants: {t: {keys: [sk-hush]}}"
    )
    result = doctor("--config", str(file), "--no-network")
    assert result.returncode == 0
    assert "tenants.t.keys[0] is in plain text" in result.stdout
    assert "litellm" not in result.stdout
    assert "sk-hush" not in result.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--litellm FILE or --config FILE"),
        (("--litellm", "/nowhere/config.yaml"), "no such file"),
        (("--litellm", "FILE"), "not valid YAML"),
    ],
    ids=["nothing to check", "no file", "no YAML"],
)
def test_wrong_use_ends_with_2(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("a: [")
    result = doctor(*(str(file) if word == "FILE" else word for word in words))
    assert result.returncode == 2
    assert said in result.stderr


def test_the_plugins_own_file_is_read_where_its_variable_names_one(proxy: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("pools: {q: {gpu: L41S}}")
    result = doctor("--litellm", str(proxy), "--no-network", WEIGHBRIDGE_CONFIG=str(own))
    assert result.returncode == 1
    assert f"correct pools.q.gpu in {own}" in result.stdout


def test_an_interpreter_is_asked_what_it_has() -> None:
    found = ask_interpreter(Path(sys.executable))
    assert found.failure is None
    assert found.plugin


@pytest.mark.parametrize(("program", "failure"), [("false", "status 1"), ("echo", "no Python interpreter")])
def test_what_is_no_interpreter_is_told(program: str, failure: str) -> None:
    assert failure in (ask_interpreter(Path("/bin") / program).failure or "")


def test_an_interpreter_that_is_not_there_is_told() -> None:
    assert ask_interpreter(Path("/nowhere/python")).failure == "no such file or directory"


def test_the_interpreter_is_that_of_the_litellm_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("python", "litellm"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert proxy_python(None) == tmp_path / "python"
    assert proxy_python(Path("/other")) == Path("/other")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert proxy_python(None) == Path(sys.executable)
