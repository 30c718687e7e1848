"""Pods of GPU workers as an API server sends them, managedFields included, and a server that sends many of them.

`python -m benchmarks.kube_pods PODS EVENTS` serves on a free port, which it prints, until its standard input ends.
"""

import asyncio
import sys
from collections.abc import Iterator
from typing import Any

import msgspec
from aiohttp import web

PAGE_PODS = 500
AT = "2026-01-01T00:00:00Z"

Json = dict[str, Any]


def pod(number: int, version: int) -> Json:
    """One ready vLLM worker. Its parts are those that a cluster fills in; values are made up."""
    name = f"llama-7d9c8b6f5d-{number:05x}"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "generateName": "llama-7d9c8b6f5d-",
            "namespace": "serving",
            "uid": f"00000000-0000-4000-8000-{number:012x}",
            "resourceVersion": str(version),
            "creationTimestamp": AT,
            "labels": {
                "app.kubernetes.io/name": "weighbridge",
                "app.kubernetes.io/component": "worker",
                "weighbridge.dev/pool": "llama",
                "pod-template-hash": "7d9c8b6f5d",
            },
            "annotations": {"checksum/config": "0" * 64, "prometheus.io/scrape": "true"},
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "ReplicaSet",
                    "name": "llama-7d9c8b6f5d",
                    "uid": "00000000-0000-4000-8000-000000000000",
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
            "managedFields": list(_managed_fields()),
        },
        "spec": _spec(number),
        "status": _status(number),
    }


def _spec(number: int) -> Json:
    probe = {"httpGet": {"path": "/health", "port": "http", "scheme": "HTTP"}, "periodSeconds": 10, "timeoutSeconds": 1}
    env = [{"name": f"VLLM_SETTING_{index}", "value": f"value-{index}"} for index in range(12)]
    mounts = [{"name": name, "mountPath": f"/{name}"} for name in ("weights", "cache", "shm", "tmp")]
    return {
        "nodeName": f"gpu-node-{number % 1250}",
        "serviceAccountName": "worker",
        "automountServiceAccountToken": False,
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 330,
        "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
        "tolerations": [
            {"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in ("nvidia.com/gpu", "spot")
        ],
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [
            {"name": "weights", "persistentVolumeClaim": {"claimName": "weights", "readOnly": True}},
            *({"name": name, "emptyDir": {}} for name in ("cache", "shm", "tmp")),
        ],
        "containers": [
            {
                "name": "server",
                "image": "vllm/vllm-openai@sha256:" + "0" * 64,
                "args": ["--model=/weights/llama", "--max-model-len=131072", "--enable-prefix-caching", "--port=8000"],
                "ports": [{"name": "http", "containerPort": 8000, "protocol": "TCP"}],
                "env": env,
                "resources": {"limits": {"nvidia.com/gpu": "1", "memory": "96Gi"}, "requests": {"cpu": "8"}},
                "volumeMounts": mounts,
                "startupProbe": probe | {"failureThreshold": 360},
                "readinessProbe": probe | {"failureThreshold": 2},
                "livenessProbe": probe | {"failureThreshold": 6},
                "lifecycle": {"preStop": {"exec": {"command": ["/bin/sh", "-c", "sleep 5"]}}},
            }
        ],
    }


def _status(number: int) -> Json:
    kinds = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    image = "vllm/vllm-openai@sha256:" + "0" * 64
    return {
        "phase": "Running",
        "hostIP": "192.0.2.1",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": AT,
        "qosClass": "Burstable",
        "conditions": [
            {"type": kind, "status": "True", "lastProbeTime": None, "lastTransitionTime": AT} for kind in kinds
        ],
        "containerStatuses": [
            {
                "name": "server",
                "ready": True,
                "started": True,
                "restartCount": 0,
                "image": image,
                "imageID": image,
                "containerID": "containerd://" + "0" * 64,
                "state": {"running": {"startedAt": AT}},
                "lastState": {},
            }
        ],
    }


def _managed_fields() -> Iterator[Json]:
    """Who set what: one entry of the controller manager, one of the kubelet."""
    of_container = {
        f"f:{key}": {} for key in ("args", "image", "imagePullPolicy", "lifecycle", "name", "terminationMessage")
    }
    of_container |= {
        "f:env": {".": {}}
        | {f'k:{{"name":"VLLM_SETTING_{index}"}}': {".": {}, "f:name": {}, "f:value": {}} for index in range(12)},
        "f:volumeMounts": {".": {}}
        | {
            f'k:{{"mountPath":"/{name}"}}': {".": {}, "f:mountPath": {}, "f:name": {}}
            for name in ("weights", "cache", "shm")
        },
        "f:resources": {
            ".": {},
            "f:limits": {".": {}, "f:memory": {}, "f:nvidia.com/gpu": {}},
            "f:requests": {"f:cpu": {}},
        },
        **{
            f"f:{probe}": {
                ".": {},
                "f:failureThreshold": {},
                "f:httpGet": {".": {}, "f:path": {}, "f:port": {}},
                "f:periodSeconds": {},
            }
            for probe in ("startupProbe", "readinessProbe", "livenessProbe")
        },
    }
    spec = {
        f"f:{key}": {} for key in ("nodeSelector", "restartPolicy", "securityContext", "serviceAccount", "tolerations")
    }
    spec |= {
        "f:containers": {'k:{"name":"server"}': of_container},
        "f:volumes": {".": {}}
        | {f'k:{{"name":"{name}"}}': {".": {}, "f:name": {}} for name in ("weights", "cache", "shm")},
    }
    common = {"operation": "Update", "apiVersion": "v1", "time": AT, "fieldsType": "FieldsV1"}
    yield common | {"manager": "kube-controller-manager", "fieldsV1": {"f:metadata": {"f:labels": {}}, "f:spec": spec}}
    condition = {".": {}, "f:lastProbeTime": {}, "f:lastTransitionTime": {}, "f:status": {}, "f:type": {}}
    status = {
        "f:conditions": {f'k:{{"type":"{kind}"}}': condition for kind in ("Initialized", "Ready", "ContainersReady")},
        "f:containerStatuses": {},
        "f:podIP": {},
        "f:podIPs": {".": {}, 'k:{"ip":"10.0.0.1"}': {".": {}, "f:ip": {}}},
    }
    yield common | {"manager": "kubelet", "subresource": "status", "fieldsV1": {"f:status": status}}


def pages(pods: int) -> list[bytes]:
    """The answers to a list in pages of `PAGE_PODS`; the token of a page is its number."""
    made = []
    for start in range(0, pods, PAGE_PODS):
        items = [pod(number, 1000 + number) for number in range(start, min(pods, start + PAGE_PODS))]
        for item in items:
            del item["kind"], item["apiVersion"]
        rest = {"continue": str(len(made) + 1)} if start + PAGE_PODS < pods else {}
        metadata = {"resourceVersion": str(1000 + pods), **rest}
        made.append(msgspec.json.encode({"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": items}))
    return made


def events(pods: int, count: int) -> list[bytes]:
    """Lines of a watch after the list of `pods`: changes of one pod after the other."""
    first = 1001 + pods
    return [
        msgspec.json.encode({"type": "MODIFIED", "object": pod(number % pods, first + number)}) + b"\n"
        for number in range(count)
    ]


async def serve(pods: int, count: int) -> None:
    answers, lines = pages(pods), events(pods, count)

    async def answer(request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            page = answers[int(request.query.get("continue", "0"))]
            return web.Response(body=page, content_type="application/json")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for line in lines:
            await response.write(line)
        await response.write_eof()
        return response

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
