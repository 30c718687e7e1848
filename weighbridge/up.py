"""Everything on one machine: Redis, autoscaler and gateway as children of one process that outlives none of them.

`running` starts the children and stops them in order; `run` is `weighbridge up` around it. The children are this
program's own `autoscaler` and `gateway` commands with a resolved configuration, so there is one code path.
"""

import asyncio
import os
import secrets
import signal
import socket
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

from backlog.child import spawn, stop
from backlog.embedded import EmbeddedRedis, EmbeddedRedisFailed
from backlog.records import PoolName, ReplicaState
from backlog.store import BacklogUnavailable, connect
from gateway.settings import Limits
from weighbridge.config import dump
from weighbridge.config_fields import digest
from weighbridge.config_models import Config, RedisSection, TenantSection
from weighbridge.up_report import admin_url, announcement, endpoint_url, reachable
from weighbridge.wiring import command_line, in_kubernetes, redis_prefix

POLL_S = 0.1
SLOW_START_S = 5.0
"""After this long without a replica, say what is being waited for."""
STOP_GRACE_S = 45.0
"""For the autoscaler, which gives its replicas 30 s."""
MOST_REDIS_RESTARTS = 10
LOG_TAIL_LINES = 15
DEFAULT_TENANT = "default"
RESOLVED = "resolved.json"


class UpError(Exception):
    """The machine cannot start what is configured; `status` is the exit status."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(slots=True, kw_only=True)
class Child:
    """One process and where its output goes."""

    name: str
    process: Process
    log: Path
    grace_s: float


@dataclass(slots=True, kw_only=True)
class Stack:
    """What runs. `endpoint` and `admin` are URLs without a path; `key` is the generated API key, if one was."""

    config: Config
    key: str | None
    run_directory: Path
    redis: EmbeddedRedis | None = None
    redis_url: str = ""
    redis_restarts: int = 0
    children: list[Child] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        return endpoint_url(self.config)

    @property
    def admin(self) -> str:
        return admin_url(self.config)

    async def ready(self, say: Callable[[str], None] = lambda _: None) -> dict[str, int]:
        """Wait until the gateway answers and each pool that keeps a replica has one. Returns ready replicas by pool.

        Raises `UpError` if a child ends meanwhile. Waits as long as a model server takes to load.
        """
        started_s = asyncio.get_running_loop().time()
        told = False
        while True:
            self.check()
            self.tend_redis(say)
            ready = await self._ready_replicas()
            lacking = [name for name, pool in self.config.pools.items() if _kept(pool.replicas) and not ready.get(name)]
            if not lacking and await self._answers():
                return ready
            if not told and asyncio.get_running_loop().time() - started_s > SLOW_START_S:
                told = True
                what = f"a replica of {', '.join(lacking)}" if lacking else "the gateway"
                say(f"waiting for {what} (logs: {self.run_directory})")
            await asyncio.sleep(POLL_S)

    async def watch(self, say: Callable[[str], None] = lambda _: None) -> None:
        """Return never; raise `UpError` when a child ends. An embedded Redis that ends is started again."""
        while True:
            self.check()
            self.tend_redis(say)
            await asyncio.sleep(POLL_S)

    def check(self) -> None:
        """Raise `UpError` with the end of its log if a child is gone."""
        for child in self.children:
            status = child.process.returncode
            if status is not None:
                how = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
                raise UpError(f"the {child.name} ended with {how}\n{_tail(child.log)}", status=1)

    def tend_redis(self, say: Callable[[str], None]) -> None:
        """Start an embedded Redis that has ended again, on the same socket: nothing in it has to survive.

        Raises `UpError` when it cannot be started, or has ended too often.
        """
        if self.redis is None or self.redis.running:
            return
        tail = _tail(self.run_directory / "redis" / "redis.log")
        if self.redis_restarts >= MOST_REDIS_RESTARTS:
            raise UpError(f"the embedded Redis ended {MOST_REDIS_RESTARTS + 1} times\n{tail}", status=1)
        self.redis_restarts += 1
        try:
            self.redis = EmbeddedRedis.start(self.run_directory)
        except EmbeddedRedisFailed as error:
            raise UpError(f"the embedded Redis ended and does not start again: {error}\n{tail}", status=1) from error
        say("the embedded Redis ended and was started again")

    async def _ready_replicas(self) -> dict[str, int]:
        ready: dict[str, int] = {}
        backlog = connect(self.redis_url, prefix=redis_prefix(self.config))
        try:
            for name in self.config.pools:
                view = await backlog.view(PoolName(name))
                ready[name] = sum(1 for replica in view.replicas or () if replica.state is ReplicaState.READY)
        except BacklogUnavailable:
            return ready
        finally:
            await backlog.close()
        return ready

    async def _answers(self) -> bool:
        """Whether the endpoint is ready; where every pool starts from zero, whether it answers at all."""
        section = self.config.gateway
        host = reachable(section.host).strip("[]")
        status = await _get_status(host, section.port, "/health/readiness")
        from_zero = not any(_kept(pool.replicas) or pool.replicas.static for pool in self.config.pools.values())
        return status == 200 or (status is not None and from_zero)


async def run(config: Config, *, run_directory: Path | None, say: Callable[[str], None]) -> int:
    """`weighbridge up`: start, announce, wait for a signal or for a child's end. Returns 0 after a signal.

    Raises `UpError`. A second signal stops without waiting for requests.
    """
    stopping = asyncio.Event()
    main = asyncio.current_task()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stopping.is_set() and main is not None:
            main.cancel()
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    try:
        async with running(config, run_directory=run_directory) as stack:
            life = asyncio.create_task(_live(stack, say), name="watch the children")
            signalled = asyncio.create_task(stopping.wait(), name="wait for a signal")
            try:
                await asyncio.wait((life, signalled), return_when=asyncio.FIRST_COMPLETED)
                if not stopping.is_set():
                    await life
                say("stopping")
            finally:
                life.cancel()
                signalled.cancel()
                await asyncio.wait((life, signalled))
    except asyncio.CancelledError:
        if not stopping.is_set():
            raise
    return 0


async def _live(stack: Stack, say: Callable[[str], None]) -> None:
    ready = await stack.ready(say)
    say(announcement(stack.config, key=stack.key, ready=ready, logs=str(stack.run_directory)))
    await stack.watch(say)


@asynccontextmanager
async def running(config: Config, *, run_directory: Path | None = None) -> AsyncIterator[Stack]:
    """Start the children, and on the way out stop gateway, autoscaler and Redis, in this order.

    Generates a key when no tenant is configured. Raises `UpError`, also for ports in use, before anything starts.
    The resolved configuration goes at the end, and after a clean run so does a folder that was made for it.
    """
    refuse(config)
    check_ports(config)
    config, key = with_key(config)
    directory = make_run_directory(run_directory)
    stack = Stack(config=config, key=key, run_directory=directory)
    try:
        if config.redis is None:
            stack.redis = EmbeddedRedis.start(directory)
            stack.redis_url = stack.redis.url
        else:
            stack.redis_url = config.redis.url.get_secret_value()
        resolved = write_resolved(config, directory, stack.redis_url)
        drain_s = config.gateway.limits.drain_s or Limits().drain_s
        options = ("--config", str(resolved))
        await _spawn(
            stack, "autoscaler", (*options, "--port", "0", "--run-dir", str(directory / "replicas")), STOP_GRACE_S
        )
        await _spawn(stack, "gateway", options, drain_s + 10.0)
        yield stack
    finally:
        await _stop(stack)
        (directory / RESOLVED).unlink(missing_ok=True)
    if run_directory is None:
        rmtree(directory, ignore_errors=True)


async def _spawn(stack: Stack, name: str, options: tuple[str, ...], grace_s: float) -> None:
    log = stack.run_directory / f"{name}.log"
    with log.open("wb") as output:
        process = await spawn(command_line(name, *options), stdout=output, stderr=output)
    stack.children.append(Child(name=name, process=process, log=log, grace_s=grace_s))


async def _stop(stack: Stack) -> None:
    """Last started, first stopped. Cancelled once, it goes on without grace; cancelled again, still all are killed."""
    impatient = False
    for child in reversed(stack.children):
        try:
            await stop(child.process, grace_s=0.0 if impatient else child.grace_s)
        except asyncio.CancelledError:
            impatient = True
    if stack.redis is not None:
        stack.redis.stop()
    if impatient:
        raise asyncio.CancelledError


def refuse(config: Config) -> None:
    """Raise `UpError` for pools whose replicas are not on this machine."""
    names = in_kubernetes(config)
    if names:
        raise UpError(kubernetes_message(names), status=2)


def kubernetes_message(names: tuple[str, ...]) -> str:
    """Why a configuration with Kubernetes pools is not run by `up`."""
    pools = ", ".join(f"pools.{name}" for name in names)
    return f"{pools}: replicas.kubernetes needs a cluster; run `weighbridge gateway` and `weighbridge autoscaler` there"


def with_key(config: Config) -> tuple[Config, str | None]:
    """The configuration, with a tenant and its new key where there was none."""
    if config.tenants:
        return config, None
    key = f"sk-wb-{secrets.token_urlsafe(24)}"
    return config.model_copy(update={"tenants": {DEFAULT_TENANT: TenantSection(keys=(digest(key),))}}), key


def check_ports(config: Config) -> None:
    """Raise `UpError` naming every port that cannot be bound."""
    section = config.gateway
    wanted = (
        ("gateway.port", section.host, section.port),
        ("gateway.admin_port", section.admin_host, section.admin_port),
    )
    faults = [f"{name} = {port}: {fault}" for name, host, port in wanted if (fault := _port_fault(host, port))]
    if faults:
        raise UpError("\n".join(faults), status=2)


def _port_fault(host: str, port: int) -> str | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            # Linux lets two sockets bind with SO_REUSEADDR until one listens.
            probe.listen(1)
        except OSError as error:
            return f"cannot listen on {host}: {(error.strerror or str(error)).lower()}; choose another port"
    return None


def free_port(host: str) -> int:
    """A port that nothing listens on now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def make_run_directory(wanted: Path | None) -> Path:
    """A private folder for logs, the resolved configuration and Redis's socket: `wanted`, or a new one in the cache."""
    if wanted is not None:
        wanted.mkdir(mode=0o700, parents=True, exist_ok=True)
        return wanted.absolute()
    cache = Path("~/.cache/weighbridge").expanduser()
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Path(mkdtemp(prefix="run-", dir=cache))
    except OSError:
        # A home that is read-only or missing, as in a container.
        return Path(mkdtemp(prefix="weighbridge-"))


def write_resolved(config: Config, directory: Path, redis_url: str) -> Path:
    """The whole configuration with the Redis that runs, in a file that only this user can read. It holds secrets."""
    prefix = redis_prefix(config)
    section = RedisSection.model_validate({"url": redis_url, "prefix": prefix})
    path = directory / RESOLVED
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(dump(config.model_copy(update={"redis": section})))
    return path


async def _get_status(host: str, port: int, path: str) -> int | None:
    """The status of a GET, `None` while there is no answer."""
    try:
        async with asyncio.timeout(2.0):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                line = await reader.readline()
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError):
        return None
    words = line.split()
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else None


def _kept(replicas: object) -> bool:
    """Whether a pool keeps at least one replica that the autoscaler starts."""
    processes = getattr(replicas, "processes", None)
    return processes is not None and processes.min > 0


def _tail(log: Path) -> str:
    """The end of a log, under its path."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:]
    except OSError:
        lines = []
    return "\n".join([f"log: {log}", *(f"  {line}" for line in lines)])
