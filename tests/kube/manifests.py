"""Short builders for objects that tests are about."""

from typing import Any

Json = dict[str, Any]


def deployment(name: str = "chat", *, replicas: int = 1, namespace: str = "default", **metadata: Any) -> Json:
    """Its pods carry the label `app=NAME`."""
    return _workload("apps/v1", "Deployment", name, replicas, namespace, metadata)


def stateful_set(name: str = "chat", *, replicas: int = 1, namespace: str = "default", **metadata: Any) -> Json:
    item = _workload("apps/v1", "StatefulSet", name, replicas, namespace, metadata)
    item["spec"]["serviceName"] = name
    return item


def leader_worker_set(name: str = "chat", *, replicas: int = 1, namespace: str = "default", size: int = 2) -> Json:
    """Groups of `size` pods, of which the first is the leader."""
    item = _workload("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet", name, replicas, namespace, {})
    template = item["spec"].pop("template")
    del item["spec"]["selector"]
    item["spec"]["leaderWorkerTemplate"] = {"size": size, "workerTemplate": template}
    item["status"] = {
        "hpaPodSelector": f"leaderworkerset.sigs.k8s.io/name={name},leaderworkerset.sigs.k8s.io/worker-index=0"
    }
    return item


def node(name: str = "n1", **labels: str) -> Json:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": {}}


def config_map(name: str, *, namespace: str = "default", labels: Json | None = None, **data: str) -> Json:
    metadata = {"name": name, "namespace": namespace, "labels": labels or {}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def _workload(api_version: str, kind: str, name: str, replicas: int, namespace: str, metadata: Json) -> Json:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "containers": [
                        {"name": "server", "image": "example.org/server:1", "ports": [{"containerPort": 8000}]}
                    ]
                },
            },
        },
    }
