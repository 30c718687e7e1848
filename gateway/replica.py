"""One replica as a gateway worker sees it: its address, its connections, its circuit breaker, its ledger."""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from backlog.records import ReplicaState
from gateway import breaker
from gateway.calibration import Meter
from gateway.ledger import ReplicaLedger
from gateway.openai import Endpoint
from gateway.pick import Load
from gateway.upstream import ReplicaConnection

if TYPE_CHECKING:
    from gateway.scheduled import Scheduled

MOST_IDLE = 512


class Replica:
    """Gives out connections and remembers whether the replica answers. `state` is the scaler's word."""

    __slots__ = (
        "_closed",
        "_dials",
        "_host",
        "_port",
        "_socket",
        "_tls",
        "breaker",
        "gpu",
        "gpu_ratio",
        "heads",
        "idle",
        "label",
        "ledger",
        "meter",
        "name",
        "open",
        "running",
        "state",
        "url",
    )  # fmt: skip

    def __init__(
        self,
        *,
        name: str,
        url: str,
        api_key: str | None,
        gpus: int,
        state: ReplicaState,
        gpu: str | None = None,
        gpu_ratio: float = 1.0,
        socket: Path | None = None,
    ) -> None:
        """`socket`: a unix socket to reach it by; `url` then names host and path only.

        Raises ValueError for an address that cannot be one, and for a ratio that is not above 0.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"replica {name}: url {url!r} must be http://host:port or https://host:port")
        if not gpu_ratio > 0.0:
            raise ValueError(f"replica {name}: ratio {gpu_ratio} must be above 0")
        self.name = name
        self.url = url
        self.state = state
        self.gpu = gpu
        self.gpu_ratio = gpu_ratio
        """Seconds that its GPU takes for one second of the pool's price."""
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._socket = None if socket is None else str(socket)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        authorization = f"authorization: Bearer {api_key}\r\n" if api_key else ""
        host = parts.netloc.rpartition("@")[2]
        base_path = parts.path.rstrip("/")
        self.heads = {
            endpoint: f"POST {base_path}{endpoint.value} HTTP/1.1\r\nhost: {host}\r\n{authorization}".encode()
            for endpoint in Endpoint
        }
        """The part of a request head that is the same for every request to this replica."""
        self.label = name.encode("latin-1", "replace")
        self.ledger = ReplicaLedger(name, gpus=gpus)
        self.meter = Meter()
        self.breaker = breaker.CLOSED
        self.idle: deque[ReplicaConnection] = deque()
        self.open: set[ReplicaConnection] = set()
        self.running: set[Scheduled] = set()
        """Requests of this worker in flight here."""
        self._closed = False
        self._dials: set[asyncio.Task[None]] = set()

    def usable(self, now_s: float) -> bool:
        """Whether new work may be sent here."""
        return self.state is ReplicaState.READY and (
            self.breaker is breaker.CLOSED or breaker.allows(self.breaker, now_s)
        )

    @property
    def load(self) -> Load:
        """What is in flight here, over all workers."""
        return self.ledger.load

    def running_s(self) -> Iterator[float]:
        """Of each request of this worker that is in flight here: shares of what was computed so far."""
        return (request.attributed_s() for request in self.running)

    def take_idle(self) -> ReplicaConnection | None:
        """An open connection that nobody uses, the most recently used first."""
        while self.idle:
            connection = self.idle.pop()
            if connection.transport is not None and not connection.transport.is_closing():
                return connection
        return None

    def dial(
        self,
        *,
        connect_s: float,
        connected: Callable[[ReplicaConnection], None],
        failed: Callable[[str], None],
    ) -> asyncio.Task[None]:
        """Open a connection in a task of its own, and call back exactly one of the two unless it is cancelled."""
        task = asyncio.get_running_loop().create_task(
            self._dial(connect_s, connected, failed), name=f"dial {self.name}"
        )
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)
        return task

    async def _dial(
        self, connect_s: float, connected: Callable[[ReplicaConnection], None], failed: Callable[[str], None]
    ) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(connect_s):
                if self._socket is not None:
                    _, connection = await loop.create_unix_connection(lambda: ReplicaConnection(self), self._socket)
                else:
                    _, connection = await loop.create_connection(
                        lambda: ReplicaConnection(self), self._host, self._port, ssl=self._tls
                    )
        except TimeoutError:
            failed(f"no connection within {connect_s} s")
            return
        except OSError as error:
            failed(f"cannot connect: {error.strerror or type(error).__name__}")
            return
        self.open.add(connection)
        connected(connection)

    def keeps(self, connection: ReplicaConnection) -> bool:
        """Take back a connection whose response is complete; `False` when it is not wanted any more."""
        if self._closed or len(self.idle) >= MOST_IDLE:
            return False
        self.idle.append(connection)
        return True

    def forget(self, connection: ReplicaConnection) -> None:
        """A connection is closed."""
        self.open.discard(connection)
        if connection in self.idle:
            self.idle.remove(connection)

    def close(self) -> None:
        """Close what is idle, keep nothing from now on. Requests that are dialing or running go on to their end."""
        self._closed = True
        for connection in list(self.idle):
            if connection.transport is not None:
                connection.transport.close()
        self.idle.clear()
