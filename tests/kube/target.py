"""Which object a path of the API names, and which kinds there are."""

from dataclasses import dataclass
from urllib.parse import unquote

from tests.kube.status import not_found_path


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a path names: a collection where `name` is empty, cluster-wide where `namespace` is."""

    group: str
    version: str
    resource: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """As messages of the server call the resource: `deployments.apps`, `pods`."""
        return f"{self.resource}.{self.group}" if self.group else self.resource


KINDS = {
    "configmaps": "ConfigMap",
    "deployments": "Deployment",
    "endpointslices": "EndpointSlice",
    "events": "Event",
    "horizontalpodautoscalers": "HorizontalPodAutoscaler",
    "leaderworkersets": "LeaderWorkerSet",
    "leases": "Lease",
    "namespaces": "Namespace",
    "nodes": "Node",
    "pods": "Pod",
    "replicasets": "ReplicaSet",
    "scaledobjects": "ScaledObject",
    "secrets": "Secret",
    "services": "Service",
    "statefulsets": "StatefulSet",
}
"""Resources whose kind is known without an object. A custom one is learned from its first object."""

WITH_STATUS = frozenset(
    {"deployments", "leaderworkersets", "namespaces", "nodes", "pods", "replicasets", "statefulsets"}
)
"""Resources whose status changes through the subresource `status` only."""


def parse_path(path: str) -> Target:
    """Raises the server's 404 for a path that is none of the API."""
    parts = [unquote(part) for part in path.strip("/").split("/")]
    match parts:
        case ["api", version, *rest]:
            group = ""
        case ["apis", group, version, *rest]:
            pass
        case _:
            raise not_found_path(path)
    namespace = ""
    if len(rest) >= 3 and rest[0] == "namespaces":
        namespace, rest = rest[1], rest[2:]
    if not 1 <= len(rest) <= 3 or not all(rest):
        raise not_found_path(path)
    resource, name, subresource = (*rest, "", "")[:3]
    return Target(
        group=group, version=version, resource=resource, namespace=namespace, name=name, subresource=subresource
    )
