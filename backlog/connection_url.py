"""What a Redis URL says: which servers, how they work together, and the options of a connection.

* `redis://`, `rediss://`: `[user[:password]@]host[:port][/db]`
* `unix://`: `[user[:password]@]/path[?db=0&password=…]`
* `redis+sentinel://`, `rediss+sentinel://`: `[user[:password]@]host[:port][,host[:port]…]/master_name[/db]`
* `redis+cluster://`, `rediss+cluster://`: `[user[:password]@]host[:port][,host[:port]…]`

Parts are percent-decoded. Errors name the part that is wrong and never show its value: it may be a piece of a password.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple
from urllib.parse import unquote

REDIS_PORT = 6379
SENTINEL_PORT = 26379


class Topology(StrEnum):
    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


class Node(NamedTuple):
    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAddress:
    """`nodes` is empty where `path`, a unix socket, is given. `options` are redis-py's arguments of a connection."""

    topology: Topology
    nodes: tuple[Node, ...]
    path: str | None = None
    master: str | None = None
    tls: bool = False
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    sentinel_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The credentials of the sentinels themselves; `options` are those of the servers that they watch."""


SCHEMES: Mapping[str, tuple[Topology, bool]] = {
    "redis": (Topology.SINGLE, False),
    "rediss": (Topology.SINGLE, True),
    "unix": (Topology.SINGLE, False),
    "redis+sentinel": (Topology.SENTINEL, False),
    "rediss+sentinel": (Topology.SENTINEL, True),
    "redis+cluster": (Topology.CLUSTER, False),
    "rediss+cluster": (Topology.CLUSTER, True),
}


def parse_redis_url(url: str) -> RedisAddress:
    """Raises ValueError with the rule that the URL breaks, ready to follow the name of a setting."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() not in SCHEMES:
        raise ValueError(f"must start with {', '.join(f'{known}://' for known in SCHEMES)}")
    topology, tls = SCHEMES[scheme.lower()]
    if "#" in rest:
        raise ValueError("must not have a fragment; write '#' in a user or password as %23")
    location, _, query = rest.partition("?")
    authority, slash, path = location.partition("/")
    if "@" in path or "@" in query:
        raise ValueError("must have '/', '?' and '@' in a user or password percent-encoded (%2F, %3F, %40)")
    userinfo, _, hosts = authority.rpartition("@")
    username, _, password = (unquote(part) for part in userinfo.partition(":"))
    given = _options(query, _known(topology, tls=tls))
    options = {"username": username, "password": password} | given
    sentinel_options = {key: options.pop(f"sentinel_{key}", None) for key in ("username", "password")}
    address = RedisAddress(
        topology=topology,
        nodes=(),
        tls=tls,
        options={key: value for key, value in options.items() if value not in ("", None)},
        sentinel_options={key: value for key, value in sentinel_options.items() if value},
    )
    if scheme.lower() == "unix":
        return _unix(address, hosts, slash + path)
    return _network(address, hosts, [unquote(part) for part in path.split("/")])


def _unix(address: RedisAddress, hosts: str, path: str) -> RedisAddress:
    if hosts or path in ("", "/"):
        raise ValueError("must have the absolute path of a socket: unix:///path")
    return replace(address, path=unquote(path))


def _network(address: RedisAddress, hosts: str, path: list[str]) -> RedisAddress:
    default_port = SENTINEL_PORT if address.topology is Topology.SENTINEL else REDIS_PORT
    nodes = _nodes(hosts, default_port)
    match address.topology:
        case Topology.SINGLE:
            if len(nodes) > 1:
                raise ValueError("must have one address; redis+sentinel:// and redis+cluster:// take several")
            master, database = None, path
        case Topology.SENTINEL:
            master, database = path[0], path[1:]
            if not master:
                raise ValueError("must name the master: redis+sentinel://host:port/master_name")
        case Topology.CLUSTER:
            master, database = None, path
    options = _database(database) | dict(address.options)
    if address.topology is Topology.CLUSTER and options.pop("db", 0):
        raise ValueError("must not name a database: a cluster has only 0")
    return replace(address, nodes=nodes, master=master, options=options)


def _nodes(hosts: str, default_port: int) -> tuple[Node, ...]:
    return tuple(_node(text, number, default_port) for number, text in enumerate(hosts.split(","), start=1))


def _node(text: str, number: int, default_port: int) -> Node:
    if text.startswith("["):
        host, closing, port = text[1:].partition("]")
        if not closing or (port and not port.startswith(":")):
            raise ValueError(f"must have address {number} as [IPv6]:port")
        port = port[1:] if port else str(default_port)
    else:
        host, colon, port = text.partition(":")
        port = port if colon else str(default_port)
    if not host or any(char.isspace() for char in host):
        raise ValueError(f"must have a host in address {number}")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"must have a number from 1 to 65535 as the port of address {number}")
    return Node(unquote(host), int(port))


def _database(path: list[str]) -> dict[str, int]:
    if path in ([], [""]):
        return {}
    if len(path) > 1:
        raise ValueError("must end with the number of a database")
    return {"db": _database_number(path[0])}


def _database_number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError("must have a number as database")
    return int(text)


def _text(text: str) -> str:
    return text


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ValueError("must be a number above 0")
    return int(text)


def _switch(text: str) -> bool:
    if text.lower() not in ("true", "false", "yes", "no", "1", "0"):
        raise ValueError("must be true or false")
    return text.lower() in ("true", "yes", "1")


def _requirement(text: str) -> str:
    if text not in ("none", "optional", "required"):
        raise ValueError("must be none, optional or required")
    return text


Reader = Callable[[str], Any]
_ALWAYS: Mapping[str, Reader] = {
    "username": _text,
    "password": _text,
    "client_name": _text,
    "health_check_interval": _count,
    "max_connections": _count,
}
_DATABASE: Mapping[str, Reader] = {"db": _database_number}
_TLS: Mapping[str, Reader] = {
    "ssl_ca_certs": _text,
    "ssl_ca_data": _text,
    "ssl_certfile": _text,
    "ssl_keyfile": _text,
    "ssl_cert_reqs": _requirement,
    "ssl_check_hostname": _switch,
    "ssl_ciphers": _text,
}
_SENTINEL: Mapping[str, Reader] = {"sentinel_username": _text, "sentinel_password": _text}


def _known(topology: Topology, *, tls: bool) -> dict[str, Reader]:
    known = {**_ALWAYS, **_DATABASE}
    if tls:
        known.update(_TLS)
    if topology is Topology.SENTINEL:
        known.update(_SENTINEL)
    return known


def _options(query: str, known: Mapping[str, Reader]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for pair in query.split("&") if query else []:
        name, _, value = pair.partition("=")
        if name in _TLS and name not in known:
            raise ValueError(f"must be a rediss URL to have the option {name}")
        if name not in known:
            raise ValueError(f"must have only these options: {', '.join(known)}")
        if name in options:
            raise ValueError(f"must have the option {name} once")
        try:
            options[name] = known[name](unquote(value))
        except ValueError as error:
            raise ValueError(f"must have a good value of the option {name}: it {error}") from None
    return options
