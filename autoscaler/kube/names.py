"""Names under which Weighbridge appears in a cluster. Pure."""

from typing import Any

Json = dict[str, Any]

FIELD_MANAGER = "weighbridge-autoscaler"
"""Under this name the API server records what we wrote."""
DOMAIN = "weighbridge.dev"
PAUSED = f"{DOMAIN}/paused"
"""On a target: leave it alone. The value is shown as the reason; `false` is no pause."""
DRAINING_SINCE = f"{DOMAIN}/draining-since"
"""On a pod: when its way out began, RFC 3339. It outlives the autoscaler that wrote it."""
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
"""On a pod, Kubernetes' own: a Deployment that shrinks removes the lowest first."""
DRAINING_COST = -1000
"""Below that of a pod that nobody marked, 0."""
DRAINED_COST = -2000
"""Of one on which nothing runs any more: it goes before those that still drain."""
