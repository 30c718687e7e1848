"""`weighbridge up` on real processes, a real Redis and real sockets."""

import http.client
import json
import os
import re
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from weighbridge.config import parse
from weighbridge.config_models import Config
from weighbridge.up import UpError, check_ports, make_run_directory, with_key, write_resolved
from weighbridge.up_report import announcement
from weighbridge.wiring import command_line

LIMIT_S = 40.0
FAST = {"processes": {"min": 1, "max": 1, "simulated": {"start_delay_s": 0, "speed": 100}}}
POOL = {"models": ["llama"], "architecture": "qwen2.5-0.5b", "gpu": "L4", "replicas": FAST}


def configuration(**sections: object) -> str:
    return json.dumps({"pools": {"chat": POOL}, "gateway": {"limits": {"drain_s": 2}}, **sections})


def config_of(text: str) -> Config:
    return parse(text, {}).config


@dataclass
class Up:
    """A running `weighbridge up`."""

    process: "subprocess.Popen[str]"
    directory: Path
    output: Path

    def text(self) -> str:
        return self.output.read_text()

    def line(self, name: str) -> str:
        found = re.search(rf"^  {name} +(.+)$", self.text(), re.MULTILINE)
        assert found, self.text()
        return found[1]

    def children(self) -> list[int]:
        """Every process under it, children of children too: those whose command line names its folder, and below."""
        parents = {pid: _parent(pid) for pid in _pids()}
        found = {self.process.pid}
        while True:
            more = {pid for pid, parent in parents.items() if parent in found} - found
            if not more:
                return sorted(found - {self.process.pid})
            found |= more


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _parent(pid: int) -> int:
    words = _stat(pid)
    return int(words[1]) if words else 0


def _runs(pid: int) -> bool:
    """Whether the process runs; one that nobody has reaped does not."""
    words = _stat(pid)
    return bool(words) and words[0] not in "ZX"


def until(condition: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.05)


@contextmanager
def started(directory: Path, *words: str, text: str | None = None) -> Iterator[Up]:
    file = directory / "c.json"
    file.write_text(text or configuration())
    output = directory / "out.txt"
    argv = command_line("up", "--config", str(file), "--port", "0", "--admin-port", "0", *words)
    run = directory / "run"
    with output.open("wb") as sink:
        process = subprocess.Popen([*argv, "--run-dir", str(run)], stdout=sink, stderr=sink, text=True)
    try:
        yield Up(process, run, output)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest.fixture
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("u")  # A unix socket's path must be short.


def chat(up: Up, key: str) -> tuple[int, bytes]:
    url = up.line("endpoint").removeprefix("http://").removesuffix("/v1")
    connection = http.client.HTTPConnection(url, timeout=LIMIT_S)
    body = json.dumps({"model": "llama", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3})
    try:
        connection.request("POST", "/v1/chat/completions", body, {"Authorization": f"Bearer {key}"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def status(up: Up) -> dict[str, Any]:
    connection = http.client.HTTPConnection(up.line("admin").split("/")[2], timeout=LIMIT_S)
    with closing(connection):
        connection.request("GET", "/status")
        page: dict[str, Any] = json.loads(connection.getresponse().read())
        return page


def is_up(up: Up) -> bool:
    assert up.process.poll() is None, up.text()
    return "Ctrl-C stops everything." in up.text()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for children in /proc")
def test_up_serves_with_the_key_that_it_prints_and_stops_everything_on_ctrl_c(directory: Path) -> None:
    with started(directory) as up:
        until(lambda: is_up(up), "up")
        status, body = chat(up, up.line("key"))
        assert (status, json.loads(body)["usage"]["completion_tokens"]) == (200, 3)
        assert chat(up, "sk-wrong")[0] == 401
        children = up.children()
        assert len(children) >= 4
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(LIMIT_S) == 0
        assert not [pid for pid in children if _runs(pid)]
        left = sorted(path.name for path in up.directory.iterdir())
        assert left == ["autoscaler.log", "gateway.log", "redis", "replicas"]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for children in /proc")
def test_a_second_ctrl_c_does_not_wait_for_requests(directory: Path) -> None:
    slow = {**POOL, "replicas": {"processes": {"simulated": {"start_delay_s": 0}}}}
    text = configuration(pools={"chat": slow}, gateway={"limits": {"drain_s": 600}})
    with started(directory, text=text) as up:
        until(lambda: is_up(up), "up")
        body = {"model": "llama", "prompt": "hi", "max_tokens": 100_000, "ignore_eos": True, "stream": True}
        connection = http.client.HTTPConnection(up.line("endpoint").split("/")[2], timeout=LIMIT_S)
        with closing(connection):
            connection.request(
                "POST", "/v1/completions", json.dumps(body), {"Authorization": f"Bearer {up.line('key')}"}
            )
            response = connection.getresponse()
            assert response.readline().startswith(b"data: ")
            children = up.children()
            up.process.send_signal(signal.SIGINT)
            until(lambda: up.text().endswith("stopping\n"), "the first signal to be seen")
            assert response.readline() is not None
            assert up.process.poll() is None
            up.process.send_signal(signal.SIGINT)
            assert up.process.wait(LIMIT_S) == 0
            response.close()
        assert not [pid for pid in children if _runs(pid)]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for children in /proc")
def test_killing_up_leaves_no_process_behind(directory: Path) -> None:
    with started(directory) as up:
        until(lambda: is_up(up), "up")
        children = up.children()
        up.process.kill()
        up.process.wait()
        until(lambda: not [pid for pid in children if _runs(pid)], "the children to end")


def test_the_death_of_a_child_ends_up_with_its_name_and_its_log(directory: Path) -> None:
    with started(directory) as up:
        until(lambda: is_up(up), "up")
        (autoscaler,) = [pid for pid in up.children() if b"\0autoscaler\0" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.kill(autoscaler, signal.SIGKILL)
        assert up.process.wait(LIMIT_S) == 1
        assert "the autoscaler ended with signal SIGKILL" in up.text()
        assert f"log: {up.directory / 'autoscaler.log'}" in up.text()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for children in /proc")
def test_an_embedded_redis_that_is_killed_is_started_again_and_no_request_notices(directory: Path) -> None:
    with started(directory) as up:
        until(lambda: is_up(up), "up")
        (redis,) = [pid for pid in up.children() if b"redis-server" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.kill(redis, signal.SIGKILL)
        until(lambda: "the embedded Redis ended and was started again" in up.text(), "the restart")
        assert {chat(up, up.line("key"))[0] for _ in range(20)} == {200}
        # The history was lost with the old server: a decision in it was made since.
        until(lambda: bool(status(up)["pools"]["chat"]["decisions"]), "scaling to resume")
        up.process.terminate()
        assert up.process.wait(LIMIT_S) == 0


def test_a_pool_at_zero_is_announced_without_waiting(directory: Path) -> None:
    pool = {**POOL, "replicas": {"processes": {"min": 0, "max": 1, "simulated": {"start_delay_s": 0}}}}
    with started(directory, text=configuration(pools={"chat": pool})) as up:
        until(lambda: is_up(up), "up")
        assert up.line("pools") == "chat: llama on 0 to 1 simulated L4 replicas, starts from zero"
        up.process.terminate()
        assert up.process.wait(LIMIT_S) == 0


def test_ports_in_use_are_named_before_anything_starts(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        ports = [first.getsockname()[1], second.getsockname()[1]]
        config = config_of(configuration(gateway={"port": ports[0], "admin_port": ports[1]}))
        with pytest.raises(UpError) as caught:
            check_ports(config)
    assert caught.value.status == 2
    assert str(caught.value).splitlines() == [
        f"gateway.{name} = {port}: cannot listen on 127.0.0.1: address already in use; choose another port"
        for name, port in zip(("port", "admin_port"), ports, strict=True)
    ]


def test_the_resolved_configuration_can_be_read_by_its_owner_only(tmp_path: Path) -> None:
    config = config_of(configuration(tenants={"t": {"keys": ["sk-1"]}}))
    (tmp_path / "resolved.json").write_text("from an earlier run")
    path = write_resolved(config, tmp_path, "unix:///tmp/redis.sock")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = parse(path.read_text(), {}).config
    assert (again.pools, again.tenants) == (config.pools, config.tenants)
    assert again.redis is not None
    assert again.redis.url.get_secret_value() == "unix:///tmp/redis.sock"


def test_a_key_is_generated_only_where_no_tenant_is_configured() -> None:
    _, key = with_key(config_of(configuration()))
    assert key is not None
    assert re.fullmatch(r"sk-wb-[\w-]{32}", key)
    config = config_of(configuration(tenants={"t": {"keys": ["sk-1"]}}))
    assert with_key(config) == (config, None)


def test_a_run_directory_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    made = make_run_directory(None)
    assert made.parent == tmp_path / ".cache" / "weighbridge"
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert stat.S_IMODE(make_run_directory(tmp_path / "own").stat().st_mode) == 0o700


def test_the_announcement_has_everything_that_a_newcomer_types() -> None:
    config, _ = with_key(config_of(configuration(gateway={"host": "0.0.0.0"})))
    assert announcement(config, key="sk-wb-x", ready={"chat": 1}, logs="/run/wb") == (
        "Weighbridge is up.\n\n"
        "  endpoint  http://127.0.0.1:4000/v1\n"
        "  key       sk-wb-x\n"
        "  admin     http://127.0.0.1:4001/status\n"
        "  pools     chat: llama on 1 to 1 simulated L4 replicas, 1 ready\n"
        "  logs      /run/wb\n\n"
        '  curl http://127.0.0.1:4000/v1/chat/completions -H "Authorization: Bearer sk-wb-x" '
        '-H "Content-Type: application/json" '
        """-d '{"model": "llama", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 32}'\n\n"""
        "Ctrl-C stops everything."
    )


def test_configured_keys_are_named_by_tenant_and_not_shown() -> None:
    config = config_of(configuration(tenants={"a": {"keys": ["sk-1"]}, "b": {"keys": ["sk-2"]}}))
    text = announcement(config, key=None, ready={"chat": 0}, logs="/run/wb")
    assert "  key       one of: a, b\n" in text
    assert '"Authorization: Bearer $WEIGHBRIDGE_KEY"' in text
