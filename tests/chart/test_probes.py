"""Containers of our own image, started with arguments and files of the chart: they answer the probes that it sets."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.chart.configuration import config, environment
from tests.chart.render import example, laid_over, render, render_example
from tests.redis_servers import free_port, start_redis

LIMIT_S = 40.0
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


@contextmanager
def running(arguments: list[str], env: dict[str, str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """`weighbridge` as a child with these variables alone; ended by SIGTERM, as the kubelet does."""
    command = [sys.executable, "-m", "weighbridge.cli", *arguments]
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(log.parent), **env}
    with log.open("wb") as output, subprocess.Popen(command, env=environ, stdout=output, stderr=output) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def status(url: str) -> int | None:
    """The status of an answer; None while there is none."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except OSError:
        return None


def answered(
    container: dict[str, Any], ports: dict[int, int], process: "subprocess.Popen[bytes]", log: Path
) -> set[str]:
    """The paths of the container's probes once all are answered with 200. `ports`: of the container to those here."""
    named = {port["name"]: ports[port["containerPort"]] for port in container["ports"]}
    probes = [container[name]["httpGet"] for name in PROBES if name in container]
    deadline = time.monotonic() + LIMIT_S
    while [probe for probe in probes if status(f"http://127.0.0.1:{named[probe['port']]}{probe['path']}") != 200]:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    return {probe["path"] for probe in probes}


def container_of(rendered: Any, name: str) -> dict[str, Any]:
    [container] = rendered.one("Deployment", name)["spec"]["template"]["spec"]["containers"]
    assert isinstance(container, dict)
    return container


@pytest.mark.timeout(120)
def test_the_gateway_answers_its_probes_and_ends_with_its_grace(tmp_path: Path) -> None:
    tenants = {"a": {"keys": [{"secret": "keys", "key": "a"}]}}
    rendered = render(laid_over(example("external-redis"), {"tenants": tenants}))
    container = container_of(rendered, "gateway")
    document = config(rendered)
    ports = {4000: free_port(), 4001: free_port()}
    document["gateway"] |= {"port": ports[4000], "admin_port": ports[4001]}
    command, option, path = container["args"]
    assert (command, option, path) == ("gateway", "--config", "/etc/weighbridge/gateway.yaml")
    file = tmp_path / "gateway.yaml"
    file.write_text(json.dumps(document), encoding="utf-8")
    with start_redis(tmp_path) as server:
        env = {**environment(rendered, "gateway"), "WEIGHBRIDGE_REDIS_URL": server.url}
        with running([command, option, str(file)], env, tmp_path / "log") as process:
            paths = answered(container, ports, process, tmp_path / "log")
            assert paths == {"/readyz", "/health/liveliness"}
            assert status(f"http://127.0.0.1:{ports[4001]}/metrics") == 200
        assert process.returncode == 0


@pytest.mark.timeout(120)
def test_a_simulated_worker_answers_its_probes(tmp_path: Path) -> None:
    rendered = render_example("simulated")
    container = container_of(rendered, "worker-chat")
    port = free_port()
    changed = {"--port=8000": f"--port={port}", "--start-delay-s=20": "--start-delay-s=0"}
    assert set(changed) <= set(container["args"])
    arguments = [changed.get(argument, argument) for argument in container["args"]]
    env = {entry["name"]: entry["value"] for entry in container["env"]}
    with running(arguments, env, tmp_path / "log") as process:
        assert answered(container, {8000: port}, process, tmp_path / "log") == {"/health"}
        assert status(f"http://127.0.0.1:{port}/metrics") == 200


@pytest.mark.timeout(120)
def test_the_operator_page_answers_its_probes(tmp_path: Path) -> None:
    rendered = render_example("external-redis")
    container = container_of(rendered, "dashboard")
    file = tmp_path / "control.yaml"
    file.write_text(json.dumps(config(rendered, "control.yaml")), encoding="utf-8")
    port = free_port()
    changed = {"/etc/weighbridge/control.yaml": str(file), "4003": str(port)}
    assert set(changed) <= set(container["args"])
    arguments = [changed.get(argument, argument) for argument in container["args"]]
    with start_redis(tmp_path) as server:
        env = {**environment(rendered, "dashboard"), "WEIGHBRIDGE_REDIS_URL": server.url}
        with running(arguments, env, tmp_path / "log") as process:
            assert answered(container, {4003: port}, process, tmp_path / "log") == {"/healthz"}
            assert status(f"http://127.0.0.1:{port}/") == 200
