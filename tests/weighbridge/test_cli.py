"""The command line as a shell sees it: exit statuses and what is printed."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from weighbridge.wiring import command_line

STATIC = (
    "pools: {chat: {models: [m], architecture: llama-3.1-8b, gpu: L40S, replicas: {static: ['http://127.0.0.1:9']}}}"
)
SCALED = STATIC.replace("{static: ['http://127.0.0.1:9']}", "{processes: {min: 1, max: 2}}")
KUBERNETES = STATIC.replace("{static: ['http://127.0.0.1:9']}", "{kubernetes: {name: llama}}")


def weighbridge(*words: str, environ: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command_line(*words), capture_output=True, text=True, timeout=30, check=False, env=environ)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "c.yaml"


def test_help_names_every_command() -> None:
    result = weighbridge("--help")
    assert result.returncode == 0
    for command in (
        "up",
        "gateway",
        "autoscaler",
        "simulate",
        "replay",
        "usage",
        "weigh",
        "gpus",
        "models",
        "demo",
        "check-config",
        "doctor",
    ):
        assert f" {command} " in result.stdout


def test_no_command_is_a_mistake() -> None:
    assert weighbridge().returncode == 2


def test_check_config_prints_the_pools(file: Path) -> None:
    file.write_text(f"{STATIC}\ntenants: {{t: {{keys: [sk-hush]}}}}\nlitellm_settings: {{cache: true}}")
    result = weighbridge("check-config", str(file))
    assert result.returncode == 0, result.stderr
    for part in ("chat", "llama-3.1-8b (8.0B)", "L40S", "http://127.0.0.1:9", "219,078", "tenants: t (weight 1)"):
        assert part in result.stdout
    assert "LiteLLM keys WITHOUT EFFECT here: litellm_settings.cache" in result.stdout
    assert "sk-hush" not in result.stdout


@pytest.mark.parametrize("command", [("check-config",), ("gateway", "--config"), ("autoscaler", "-c"), ("up", "-c")])
def test_a_bad_configuration_ends_every_command_with_2(file: Path, command: tuple[str, ...]) -> None:
    file.write_text("pools: {chat: {gpu: L41S}}")
    result = weighbridge(*command, str(file))
    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        f"{file}: 3 errors",
        "  pools.chat.architecture: is required: no built-in architecture is named 'chat'",
        "  pools.chat.gpu = 'L41S': unknown GPU; did you mean 'L40S'?",
        "  pools.chat.replicas: is required",
    ]


def test_up_has_no_cluster_for_kubernetes_pools(file: Path) -> None:
    file.write_text(KUBERNETES)
    result = weighbridge("up", "--config", str(file))
    assert result.returncode == 2
    assert result.stderr == (
        "pools.chat: replicas.kubernetes needs a cluster; "
        "run `weighbridge gateway` and `weighbridge autoscaler` there\n"
    )


def test_an_autoscaler_of_kubernetes_pools_says_that_there_is_no_cluster(file: Path) -> None:
    file.write_text(f"{KUBERNETES}\nredis: {{url: 'redis://127.0.0.1:1'}}")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("KUBE")}
    result = weighbridge(
        "autoscaler", "--config", str(file), "--port", "0", environ={**environ, "HOME": str(file.parent)}
    )
    assert result.returncode == 2
    assert "cannot start" in result.stderr
    assert f"there is no kubeconfig at {file.parent}/.kube/config" in result.stderr


def test_an_autoscaler_whose_port_is_taken_says_so(file: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        file.write_text(f"{STATIC}\nredis: {{url: 'redis://127.0.0.1:1'}}\ncontroller: {{port: {port}}}")
        result = weighbridge("autoscaler", "--config", str(file))
    assert result.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in result.stderr


def test_kubernetes_pools_can_be_checked(file: Path) -> None:
    file.write_text(KUBERNETES)
    result = weighbridge("check-config", str(file))
    assert result.returncode == 0
    assert "Deployment default/llama 1..1" in result.stdout


@pytest.mark.parametrize("command", ["gateway", "autoscaler"])
def test_separate_processes_need_a_redis_to_meet_in(file: Path, command: str) -> None:
    file.write_text(SCALED)
    result = weighbridge(command, "--config", str(file))
    assert result.returncode == 2
    assert "redis.url is required" in result.stderr


MISTAKES = {
    "replicas are not numbers": (("--replicas", "a:b"), "--replicas a:b: must be MIN:MAX, two whole numbers"),
    "replicas are reversed": (("--replicas", "3:1"), "must be at least min (3)"),
    "unknown gpu": (("--gpu", "L41S"), "did you mean 'L40S'?"),
    "unknown model": (("--model", "llama-9b"), "no built-in architecture is named 'llama-9b'"),
    "one port for two": (("--port", "4400", "--admin-port", "4400"), "--port and --admin-port must differ"),
    "pools twice": (("--config", "x.yaml", "--gpu", "L4"), "with --config, pools are in the file"),
}


@pytest.mark.parametrize(("words", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_bad_option_of_up_ends_with_2(words: tuple[str, ...], message: str) -> None:
    result = weighbridge("up", *words)
    assert result.returncode == 2
    assert message in result.stderr


def test_a_bad_option_of_simulate_ends_with_2() -> None:
    result = weighbridge("simulate", "--gpu", "abacus")
    assert (result.returncode, result.stderr) == (2, "gpu 'abacus' is not a known accelerator\n")


def test_a_simulated_replica_loads_no_gateway_and_no_configuration() -> None:
    code = (
        "import sys; sys.argv = ['weighbridge', 'simulate', '--gpu', 'abacus']\n"
        "from weighbridge.cli import main\n"
        "try: main()\n"
        "except SystemExit: print(sorted(sys.modules))\n"
    )
    run = [sys.executable, "-P", "-c", code]
    loaded = subprocess.run(run, capture_output=True, text=True, timeout=30, check=True).stdout
    assert "'simulator'" in loaded
    for module in ("gateway", "autoscaler", "weighbridge.config", "weighbridge.replay", "aiohttp", "redis"):
        assert f"'{module}'" not in loaded
