"""redis-py's clients for one server, for Sentinel and for a cluster, behind one face. Nothing here repeats a call.

redis-py's own repeats are off: a repeat inside a connection goes to the same address again, which is wrong after a
failover, and each layer that repeats multiplies the time that a call takes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError

from backlog.connection_url import RedisAddress, Topology
from backlog.scripts import Script

Row = Sequence[tuple[Script, Sequence[str], Sequence[Any]]]


class ServerClient:
    """One server, or the master that Sentinel names, which is asked again for each new connection."""

    def __init__(self, redis: "Redis", sentinels: Sequence["Redis"] = ()) -> None:
        self._redis = redis
        self._sentinels = sentinels
        self.known: set[str] = set()
        """Digests of the scripts that ran since `refresh`: the server has their texts."""

    async def execute(self, *command: Any) -> Any:
        return await self._redis.execute_command(*command)  # type: ignore[no-untyped-call]

    async def execute_row(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """One round trip without a transaction. Errors that Redis answers are in the list."""
        pipeline = self._redis.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        return await pipeline.execute(raise_on_error=False)

    async def refresh(self) -> None:
        """Let go of the connections that may lead to a server that is gone or no longer the master."""
        self.known.clear()
        await self._redis.connection_pool.disconnect(inuse_connections=False)

    async def close(self) -> None:
        for client in (self._redis, *self._sentinels):
            await client.aclose()


class ClusterClient:
    """A cluster. The keys of one row share a slot, so that it goes to one node."""

    def __init__(self, redis: "RedisCluster") -> None:
        self._redis = redis
        self.known: set[str] = set()
        """As in `ServerClient`, on the node of the script's keys as far as this process knows."""

    async def execute(self, *command: Any) -> Any:
        return await self._redis.execute_command(*command)

    async def execute_row(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """As `ServerClient.execute_row`. What MOVED answers is asked again, in order, of the node that has the slot."""
        pipeline = self._redis.pipeline()
        for command in commands:
            pipeline.execute_command(*command)
        return await pipeline.execute(raise_on_error=False)

    async def refresh(self) -> None:
        """Ask which node has which slot, and let go of idle connections to nodes that may have restarted."""
        self.known.clear()
        await self._redis.nodes_manager.initialize()
        for node in self._redis.get_nodes():
            await node.disconnect_free_connections()

    async def close(self) -> None:
        await self._redis.aclose()


Client = ServerClient | ClusterClient


def open_client(address: RedisAddress, *, connect_s: float, answer_s: float | None) -> Client:
    """Opens no connection yet. `answer_s`: the longest wait for an answer, None for commands that block."""
    options = {
        **address.options,
        "protocol": 2,
        # No CLIENT SETINFO: far from Redis its round trip is time that the first call does not have.
        "driver_info": None,
        "socket_timeout": answer_s,
        "socket_connect_timeout": connect_s,
    }
    match address.topology:
        case Topology.SINGLE:
            return ServerClient(Redis.from_pool(_pool(address, options)))
        case Topology.SENTINEL:
            return _sentinel(address, options, connect_s=connect_s)
        case Topology.CLUSTER:
            options.pop("db", None)
            nodes = [ClusterNode(node.host, node.port) for node in address.nodes]
            return ClusterClient(
                RedisCluster(
                    startup_nodes=nodes, ssl=address.tls, retry=_never(), require_full_coverage=False, **options
                )
            )


def _pool(address: RedisAddress, options: Mapping[str, Any]) -> "ConnectionPool":
    if address.path is not None:
        return ConnectionPool(UnixDomainSocketConnection, path=address.path, retry=_never(), **options)
    kind = SSLConnection if address.tls else Connection
    host, port = address.nodes[0]
    return ConnectionPool(kind, host=host, port=port, retry=_never(), **options)


def _sentinel(address: RedisAddress, options: Mapping[str, Any], *, connect_s: float) -> ServerClient:
    # One sentinel that hangs must leave time to ask the next one and then the master.
    ask_s = connect_s / (len(address.nodes) + 1)
    tls = {key: value for key, value in options.items() if key.startswith("ssl_")} | {"ssl": address.tls}
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        address.nodes,
        sentinel_kwargs={
            **tls,
            **address.sentinel_options,
            "protocol": 2,
            "socket_timeout": ask_s,
            "socket_connect_timeout": ask_s,
            "retry": _never(),
        },
    )
    master = sentinel.master_for(address.master or "", ssl=address.tls, retry=_never(), **options)
    return ServerClient(master, sentinel.sentinels)


def _never() -> Retry:
    return Retry(NoBackoff(), 0, supported_errors=(RedisConnectionError,))


async def run_row(client: Client, row: Row) -> list[Any]:
    """One round trip, or two where a server has forgotten a script. Errors are in the list.

    A row with a script that may not be there goes as texts, which leaves all of them there.
    """
    answers = await client.execute_row(_commands(row, text=any(entry[0].sha not in client.known for entry in row)))
    client.known.update(script.sha for script, _, _ in row)
    unknown = [index for index, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
    if unknown:
        # And what came after, which has not seen their effects. A claim that ran again would lease twice as much.
        again = [at for at in range(unknown[0], len(row)) if at in unknown or row[at][0].repeatable]
        texts = _commands([row[at] for at in again], text=True)
        for index, answer in zip(again, await client.execute_row(texts), strict=True):
            answers[index] = answer
    return answers


def _commands(row: Row, *, text: bool) -> list[Sequence[Any]]:
    command = "EVAL" if text else "EVALSHA"
    return [(command, script.text if text else script.sha, len(keys), *keys, *args) for script, keys, args in row]
