"""Containers of our own image, started with arguments and files of the chart: they answer the probes that it sets."""

import json
from pathlib import Path

import pytest

from tests.chart.configuration import config, environment
from tests.chart.processes import answered, container_of, running, status
from tests.chart.render import example, laid_over, render, render_example
from tests.redis_servers import free_port, start_redis


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
