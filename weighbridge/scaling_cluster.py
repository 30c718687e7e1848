"""What an autoscaler that scales in Kubernetes has open: a connection, the objects that it watches, an election."""

import random
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from autoscaler.kube.api import KubeApi
from autoscaler.kube.calls import CountedConnection
from autoscaler.kube.cluster import Cluster
from autoscaler.kube.connection import connect
from autoscaler.kube.election import Election
from autoscaler.kube.events import Events
from autoscaler.kube.status_map import StatusMap
from weighbridge.config_controller import ControllerSection

DEFAULT_NAMESPACE = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenCluster:
    """One per process. `cluster` keeps what it holds current while `run` runs."""

    cluster: Cluster
    calls: Mapping[tuple[str, str], int]
    """Requests to the API server by verb and status."""
    election: Election
    events: Events
    status: StatusMap
    clock: Callable[[], float]
    """Never jumps, and also counts while the machine sleeps."""

    @property
    def watch_ages_s(self) -> dict[str, float | None]:
        """Since when the server was last heard of, by watch."""
        now_s = self.clock()
        return {
            watch.name: None if watch.current_at_s is None else now_s - watch.current_at_s
            for watch in self.cluster.watches
        }

    @property
    def synced(self) -> dict[str, bool]:
        return {watch.name: watch.synced for watch in self.cluster.watches}


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
    """Raises `autoscaler.kube.connection.NotConnected` with what is missing. Close `cluster.api` in the end."""
    clock = boot_clock()
    connection = await connect(None, clock=clock, environ=environ)
    counted = CountedConnection(connection)
    namespace = controller.lease.namespace or connection.namespace or DEFAULT_NAMESPACE
    # Its own client: a renewal must not wait behind other requests.
    election = Election(
        KubeApi(counted, clock=clock, rng=random.Random()),
        controller.lease.terms(identity_of(controller)),
        namespace=namespace,
        name=controller.lease.name,
        clock=clock,
        wall=wall,
    )
    api = KubeApi(counted, clock=clock, rng=random.Random())
    leads = election.leads
    return OpenCluster(
        cluster=Cluster(api, clock=wall, monotonic=clock, leads=leads, read_nodes=controller.read_nodes),
        calls=counted.counts,
        election=election,
        events=Events(api, wall, leads=leads, instance=election.identity),
        status=StatusMap(api, namespace=namespace, clock=clock, leads=leads),
        clock=clock,
    )
