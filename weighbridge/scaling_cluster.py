"""What an autoscaler that scales in Kubernetes has open: a connection, a client for the work, an election."""

import random
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from autoscaler.kube.api import KubeApi
from autoscaler.kube.calls import CountedConnection
from autoscaler.kube.connection import connect
from autoscaler.kube.election import Election
from weighbridge.config_controller import ControllerSection

DEFAULT_NAMESPACE = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenCluster:
    """One per process. `clock` never jumps, and also counts while the machine sleeps."""

    api: KubeApi
    calls: Mapping[tuple[str, str], int]
    election: Election
    namespace: str
    """That of the lease and of the status."""
    clock: Callable[[], float]


def identity_of(controller: ControllerSection) -> str:
    """Unique over processes: two that share a host name must not take each other for themselves."""
    return f"{controller.identity or socket.gethostname()}_{secrets.token_hex(4)}"


def boot_clock() -> Callable[[], float]:
    """Seconds that never jump; where the system has such a clock, it does not stop while the machine sleeps."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic  # noqa: TID251 (the composition root)


async def open_cluster(
    controller: ControllerSection, *, wall: Callable[[], float], environ: Mapping[str, str]
) -> OpenCluster:
    """Raises `autoscaler.kube.connection.NotConnected` with what is missing. Close `api` in the end."""
    clock = boot_clock()
    connection = await connect(None, clock=clock, environ=environ)
    counted = CountedConnection(connection)
    namespace = controller.lease.namespace or connection.namespace or DEFAULT_NAMESPACE
    election = Election(
        KubeApi(counted, clock=clock, rng=random.Random()),
        controller.lease.terms(identity_of(controller)),
        namespace=namespace,
        name=controller.lease.name,
        clock=clock,
        wall=wall,
    )
    api = KubeApi(counted, clock=clock, rng=random.Random())
    return OpenCluster(api=api, calls=counted.counts, election=election, namespace=namespace, clock=clock)
