"""Real Redis processes on loopback for tests that need more than `redis_server`: replicas, Sentinel, clusters, TLS.

Everything is a context manager; a process ends with its block, and with this process whatever happens. `start_redis`
and the others block: call them from the main thread. Paths are unique per port, so one `tmp_path` does for all.

    with start_redis(tmp_path, "maxmemory 4mb", password="secret") as server: connect_redis(server.url, timeout_s=1)
    with start_redis(tmp_path) as a, start_redis(tmp_path, f"replicaof 127.0.0.1 {a.port}") as b, \
            start_sentinel(tmp_path, a) as sentinel: ...
    with start_cluster(tmp_path, nodes=2) as nodes: connect_redis(cluster_url(nodes), timeout_s=1)
    async with hop(server.port, delay_s=0.02) as slow: slow.pause(); slow.resume(); slow.cut(); slow.mend()
"""

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme
from redis import Redis
from redis.exceptions import RedisError

from backlog.child import spawn_blocking, stop_blocking
from backlog.embedded import find_servers

LIMIT_S = 20.0
BUS_OFFSET = 10_000
CLUSTER_SLOTS = 16384


@dataclass(frozen=True, slots=True)
class Certificates:
    """A certificate authority and a certificate for 127.0.0.1 and localhost, as files."""

    authority: Path
    certificate: Path
    key: Path


def make_certificates(directory: Path) -> Certificates:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    made = Certificates(directory / "ca.pem", directory / "server.pem", directory / "server.key")
    authority.cert_pem.write_to_path(made.authority)
    issued.private_key_pem.write_to_path(made.key)
    made.certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    return made


class Server:
    """One process. Started again after `kill` or `stop`, it has the same port, and no data."""

    def __init__(
        self,
        directory: Path,
        lines: Sequence[str],
        *,
        binary: str,
        port: int,
        password: str | None,
        certificates: Certificates | None,
        sentinel: bool = False,
    ) -> None:
        self.port = port
        self.password = password
        self.certificates = certificates
        self.home = directory / f"redis-{port}"
        self.home.mkdir()
        self._sentinel = sentinel
        self._argv = [binary, str(self.home / "redis.conf"), *(["--sentinel"] if sentinel else [])]
        self._lines = [*self._common(), *lines]
        self._process: subprocess.Popen[bytes] | None = None

    def _common(self) -> Iterator[str]:
        yield f"dir {self.home}"
        yield "bind 127.0.0.1"
        if self.password is not None:
            yield f"requirepass {self.password}"
        if not self._sentinel:
            yield 'save ""'
            yield "repl-diskless-sync-delay 0"
            yield from [f"masterauth {self.password}"] if self.password is not None else []
        if self.certificates is None:
            yield f"port {self.port}"
            return
        yield "port 0"
        yield f"tls-port {self.port}"
        yield f"tls-ca-cert-file {self.certificates.authority}"
        yield f"tls-cert-file {self.certificates.certificate}"
        yield f"tls-key-file {self.certificates.key}"
        yield "tls-auth-clients no"
        yield "tls-replication yes"
        yield "tls-cluster yes"

    @property
    def url(self) -> str:
        return self.url_of("redis")

    def url_of(self, scheme: str) -> str:
        """With the password and the certificate authority, where there are any; `scheme` without the `s` of TLS."""
        user = f":{self.password}@" if self.password is not None else ""
        if self.certificates is None:
            return f"{scheme}://{user}127.0.0.1:{self.port}"
        return f"{scheme.replace('redis', 'rediss', 1)}://{user}127.0.0.1:{self.port}?ssl_ca_certs={self.certificates.authority}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @contextmanager
    def admin(self) -> Iterator["Redis"]:
        """A plain client beside the one under test."""
        tls: dict[str, Any] = {}
        if self.certificates is not None:
            tls = {"ssl": True, "ssl_ca_certs": str(self.certificates.authority)}
        with Redis(
            host="127.0.0.1",
            port=self.port,
            password=self.password,
            socket_timeout=LIMIT_S,
            decode_responses=True,
            **tls,
        ) as client:
            yield client

    def tell(self, *command: Any) -> Any:
        with self.admin() as client:
            return client.execute_command(*command)

    def start(self) -> "Server":
        """Start and wait until it answers."""
        (self.home / "redis.conf").write_text("\n".join(self._lines) + "\n")
        with (self.home / "redis.log").open("wb") as log:
            self._process = spawn_blocking(self._argv, env={"LC_ALL": "C"}, stdout=log, stderr=log)
        wait_for(self._answers)
        assert self.running, (self.home / "redis.log").read_text()[-2000:]
        return self

    def _answers(self) -> bool:
        if not self.running:
            return True
        with suppress(RedisError, OSError):
            return bool(self.tell("PING"))
        return False

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.stop()

    def pause(self) -> None:
        """Hang: connections are accepted by the kernel and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        """May be repeated; ends a paused server too."""
        if self._process is not None:
            stop_blocking(self._process, grace_s=0.0)


@contextmanager
def start_redis(
    directory: Path,
    *lines: str,
    binary: str | None = None,
    password: str | None = None,
    certificates: Certificates | None = None,
) -> Iterator[Server]:
    """One server with these lines of configuration."""
    server = Server(
        directory,
        lines,
        binary=binary or first_server(),
        port=free_port(),
        password=password,
        certificates=certificates,
    )
    try:
        yield server.start()
    finally:
        server.stop()


@contextmanager
def start_replica(master: Server, directory: Path, *lines: str) -> Iterator[Server]:
    """A replica that has caught up with `master`."""
    follow = f"replicaof 127.0.0.1 {master.port}"
    with start_redis(directory, follow, *lines, password=master.password, certificates=master.certificates) as replica:
        wait_for(lambda: "master_link_status:up" in _info(replica))
        yield replica


@contextmanager
def start_sentinel(
    directory: Path, master: Server, *, name: str = "main", down_after_ms: int = 300, password: str | None = None
) -> Iterator[Server]:
    """One sentinel with quorum 1 that knows the replicas of `master` by now."""
    server = Server(
        directory,
        [
            f"sentinel monitor {name} 127.0.0.1 {master.port} 1",
            f"sentinel down-after-milliseconds {name} {down_after_ms}",
            f"sentinel failover-timeout {name} 1000",
            *([f"sentinel auth-pass {name} {master.password}"] if master.password is not None else []),
        ],
        binary=first_server(),
        port=free_port(),
        password=password,
        certificates=master.certificates,
        sentinel=True,
    )
    with master.admin() as client:
        replicas = client.info("replication")["connected_slaves"]
    try:
        server.start()
        with suppress(RedisError):
            # Not `ping-period`: what a sentinel has read of a replica counts for five of those, and once the master is
            # down it reads only once a second.
            server.tell("SENTINEL", "DEBUG", "info-period", "100", "ask-period", "50")
            # A machine that stands still for 2 s would put it into TILT, where it names no new master for 30 s.
            server.tell("SENTINEL", "DEBUG", "tilt-trigger", "600000", "tilt-period", "100")
            # After such a pause a failover may fail, or find its links dead: the next try comes soon.
            server.tell("SENTINEL", "DEBUG", "election-timeout", "1000", "min-link-reconnect-period", "500")
        wait_for(lambda: _known_replicas(server, name) >= replicas)
        yield server
    finally:
        server.stop()


@contextmanager
def start_cluster(
    directory: Path,
    *lines: str,
    nodes: int = 2,
    password: str | None = None,
    certificates: Certificates | None = None,
) -> Iterator[list[Server]]:
    """Masters that share the slots evenly, in order: the first has slot 0."""
    with ExitStack() as stack:
        servers = [
            stack.enter_context(
                start_redis(
                    directory,
                    "cluster-enabled yes",
                    "cluster-node-timeout 2000",
                    "cluster-require-full-coverage no",
                    *lines,
                    password=password,
                    certificates=certificates,
                )
            )
            for _ in range(nodes)
        ]
        share = CLUSTER_SLOTS // nodes
        for index, server in enumerate(servers):
            last = CLUSTER_SLOTS if index == nodes - 1 else (index + 1) * share
            server.tell("CLUSTER", "ADDSLOTS", *range(index * share, last))
            server.tell("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
        for server in servers[1:]:
            server.tell("CLUSTER", "MEET", "127.0.0.1", servers[0].port)
        for server in servers:
            wait_for(lambda server=server: _cluster_is_whole(server, nodes))  # type: ignore[misc]
        yield servers


def cluster_url(nodes: Sequence[Server]) -> str:
    location, question, query = nodes[0].url_of("redis+cluster").partition("?")
    return ",".join([location, *(f"127.0.0.1:{node.port}" for node in nodes[1:])]) + question + query


def move_slot(slot: int, *, source: Server, target: Server) -> None:
    """Give an empty slot to another node of the cluster."""
    node_id = target.tell("CLUSTER", "MYID")
    target.tell("CLUSTER", "SETSLOT", slot, "NODE", node_id)
    # The latest epoch wins over what the nodes have told each other before.
    target.tell("CLUSTER", "BUMPEPOCH")
    source.tell("CLUSTER", "SETSLOT", slot, "NODE", node_id)


class Hop:
    """A TCP hop on loopback that delays, holds up or breaks what passes."""

    def __init__(self, target_port: int, delay_s: float) -> None:
        self.port = 0
        self._target_port = target_port
        self._delay_s = delay_s
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._refusing = False
        self._links: set[asyncio.Task[None]] = set()

    def pause(self) -> None:
        """Nothing passes, nothing breaks: a network that swallows packets."""
        self._flowing.clear()

    def resume(self) -> None:
        self._flowing.set()

    def cut(self) -> None:
        """Break every connection; break new ones until `mend`."""
        self._refusing = True
        for link in self._links:
            link.cancel()

    def mend(self) -> None:
        self._refusing = False

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.current_task()
        assert link is not None
        self._links.add(link)
        peer: asyncio.StreamWriter | None = None
        try:
            if self._refusing:
                return
            answers, peer = await asyncio.open_connection("127.0.0.1", self._target_port)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(reader, peer), name="hop out")
                group.create_task(self._carry(answers, writer), name="hop back")
        except (OSError, asyncio.CancelledError, ExceptionGroup):
            pass
        finally:
            self._links.discard(link)
            for end in (writer, peer):
                if end is not None:
                    end.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Keeps the order and the pace: a delay, not a slower line."""
        loop = asyncio.get_running_loop()
        line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                at_s, data = await line.get()
                await asyncio.sleep(at_s - loop.time())
                await self._flowing.wait()
                if not data:
                    raise ConnectionResetError
                writer.write(data)
                await writer.drain()

        async with asyncio.TaskGroup() as group:
            group.create_task(deliver(), name="hop delivers")
            while data := await reader.read(65536):
                line.put_nowait((loop.time() + self._delay_s, data))
            line.put_nowait((loop.time() + self._delay_s, b""))


@asynccontextmanager
async def hop(target_port: int, *, delay_s: float = 0.0) -> AsyncIterator[Hop]:
    """A `Hop` in front of a server, listening on its `port`. `delay_s` is one way."""
    made = Hop(target_port, delay_s)
    listener = await asyncio.start_server(made.accept, "127.0.0.1", 0)
    made.port = listener.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        listener.close()
        links = list(made._links)
        made.cut()
        await asyncio.gather(*links, return_exceptions=True)


def first_server() -> str:
    """The first Redis on this machine; without one the test is skipped, and fails where CI is set."""
    for server in find_servers():
        return server
    return missing("CI must have a Redis server")


def missing(what: str) -> str:
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def free_port() -> int:
    """A port that nobody uses now, nor the one that a cluster's bus adds to it."""
    for _ in range(100):
        with socket.socket() as probe, socket.socket() as bus:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            if port + BUS_OFFSET > 65535:
                continue
            with suppress(OSError):
                bus.bind(("127.0.0.1", port + BUS_OFFSET))
                return port
    raise AssertionError("no free port")


def wait_for(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline_s, "the condition did not come true"
        time.sleep(0.01)


def _info(server: Server) -> str:
    with server.admin() as client:
        return "\n".join(f"{key}:{value}" for key, value in client.info("replication").items())


def _known_replicas(sentinel: Server, name: str) -> int:
    """Those whose state the sentinel has read: only they can be promoted."""
    with sentinel.admin() as client:
        return sum(replica["master-link-status"] == "ok" for replica in client.sentinel_slaves(name))


def _cluster_is_whole(server: Server, nodes: int) -> bool:
    with server.admin() as client:
        info = client.execute_command("CLUSTER INFO")
        shards = client.execute_command("CLUSTER SLOTS")
    return info["cluster_state"] == "ok" and info["cluster_known_nodes"] == str(nodes) and len(shards) == nodes
