"""Connections that notice when the other end has vanished without a word.

A watch may be silent for minutes, and a server whose machine is gone never says so. The kernel asks in between.
"""

import socket
from typing import Any

IDLE_S = 30
INTERVAL_S = 10
PROBES = 3
"""An end that answers none of these probes is gone: after a minute of silence."""


def kept_alive(address: tuple[Any, ...]) -> socket.socket:
    """A socket for this `getaddrinfo` entry that is asked for a sign of life; as aiohttp's `socket_factory`."""
    family, kind, protocol, *_ = address
    made = socket.socket(family=family, type=kind, proto=protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Not every platform has each of them.
    for name, value in (
        ("TCP_KEEPIDLE", IDLE_S),
        ("TCP_KEEPINTVL", INTERVAL_S),
        ("TCP_KEEPCNT", PROBES),
        # What was sent and is not acknowledged counts likewise.
        ("TCP_USER_TIMEOUT", 1000 * (IDLE_S + INTERVAL_S * PROBES)),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made
