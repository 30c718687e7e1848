"""`controller`: the autoscaler process, its port, its lead among several, and what it tells KEDA."""

from typing import Annotated

from pydantic import Field, model_validator

from autoscaler.kube.lease import LeaseTerms
from weighbridge.config_fields import Name, Port, Seconds, Section

Host = Annotated[str, Field(min_length=1)]


class LeaseSection(Section):
    """The Lease that says which autoscaler leads. Used when a pool's replicas are in Kubernetes."""

    namespace: Name | None = None
    """Default: the pod's own, or that of the kubeconfig's context, or `default`."""
    name: Name = "weighbridge-autoscaler"
    duration_s: Annotated[Seconds, Field(ge=1)] = 15.0
    """A lead that is not renewed for this long may be taken by another."""
    renew_deadline_s: Seconds = 10.0
    """A leader that could not renew for this long stops."""
    retry_s: Seconds = 2.0
    """Between two looks at the lease."""

    @model_validator(mode="after")
    def _leave_room_for_each_other(self) -> "LeaseSection":
        self.terms("any")
        return self

    def terms(self, identity: str) -> LeaseTerms:
        """Raises ValueError when the times leave no room for each other."""
        return LeaseTerms(
            identity=identity,
            duration_s=self.duration_s,
            renew_deadline_s=self.renew_deadline_s,
            retry_s=self.retry_s,
        )


class KedaSection(Section):
    """Where KEDA's external scaler listens (gRPC). Without this section it does not."""

    host: Host = "127.0.0.1"
    port: Port = 4004


class ControllerSection(Section):
    """The autoscaler process."""

    host: Host = "127.0.0.1"
    port: Port = 4002
    """Of `/metrics`, `/healthz` and `/readyz`."""
    identity: Name | None = None
    """Under which it leads, followed by a random suffix. Default: the host name."""
    lease: LeaseSection = LeaseSection()
    read_nodes: bool = False
    """Tell GPUs by the labels of nodes; the service account must be allowed to get nodes."""
    keda: KedaSection | None = None
