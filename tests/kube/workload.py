"""Controllers and a kubelet for the fake server: replicas become pods, which come to life and end.

    async with Workload(server.store, start=start, stop=stop) as workload:
        ...                                      # Deployments, StatefulSets and LeaderWorkerSets get their pods
        workload.capacity = 2; workload.wake()   # a third pod stays Pending, unschedulable
        workload.set_ready("chat-0", False); workload.crash("chat-0"); workload.fail("chat-0")

`start(pod)` is called with a pod that has an address (`status.podIP`, one of 127.0.0.0/8, so that something may
listen there) and returns when it is to be ready; `stop(pod)` when it terminates, and returns when it is to be gone.
"""

import asyncio
import os
import random
import string
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any, Self

from tests.kube import pods as pod_states
from tests.kube.pods import owner_uid, pod_from_template
from tests.kube.store import Store
from tests.kube.target import Target
from tests.kube.victim import in_order_of_deletion, is_active, is_ready

Json = dict[str, Any]
Callback = Callable[[Json], Awaitable[None]]

_GROUPS = "leaderworkerset.sigs.k8s.io"


async def _nothing(pod: Json) -> None:
    pass


class Workload:
    """Use as an async context manager. Attributes may be changed at any time; `wake` makes them count at once."""

    def __init__(
        self,
        store: Store,
        *,
        start: Callback = _nothing,
        stop: Callback = _nothing,
        like_deployments: tuple[str, ...] = (),
    ) -> None:
        self.capacity: int | None = None
        """How many pods find a node; None for all."""
        self.node_of: Callable[[Json], str] = lambda pod: "node-1"
        self.hold_starting = False
        """Whether pods stay as they are before their containers start."""
        self.hold_terminating = False
        """Whether pods that are deleted stay."""
        self.unready: set[str] = set()
        """Names of pods that run without being ready."""
        self._store = store
        self._start = start
        self._stop = stop
        self._unordered = ("deployments", *like_deployments)
        self._woken = asyncio.Event()
        self._rng = random.Random(0)
        self._addresses = count(1)
        self._begun: set[str] = set()
        self._ending: set[str] = set()
        self._tasks: dict[asyncio.Task[None], None] = {}

    async def __aenter__(self) -> Self:
        self._store.graceful.add("pods")
        self._store.listeners.append(self.wake)
        self._keep(self._reconcile_for_ever(), "workload")
        self.wake()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Ends what it started; pods that are there are stopped, so that nothing listens on afterwards.

        Raises what a callback has raised.
        """
        self._store.listeners.remove(self.wake)
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        for pod in self._store.all("pods"):
            if pod["metadata"]["uid"] in self._begun:
                await self._stop(pod)
        for result in results:
            if isinstance(result, Exception):
                raise result

    def wake(self) -> None:
        self._woken.set()

    def set_ready(self, name: str, ready: bool) -> None:
        (self.unready.discard if ready else self.unready.add)(name)
        self.wake()

    def crash(self, name: str, namespace: str = "default") -> None:
        """The container ends, and starts again unless `hold_starting`. `stop` is not called: it has ended already."""
        pod = self._store.get("pods", name, namespace)
        self._begun.discard(pod["metadata"]["uid"])
        self._store.put("pods", pod_states.crashed(pod, self._store.now()))

    def fail(self, name: str, namespace: str = "default") -> None:
        """The pod ends for good, as after an eviction, and gets a successor."""
        self._store.put("pods", pod_states.failed(self._store.get("pods", name, namespace), self._store.now()))

    def ready(self, namespace: str | None = None) -> list[str]:
        """Names of the pods that are ready and stay."""
        return [
            pod["metadata"]["name"] for pod in self._store.all("pods", namespace) if is_active(pod) and is_ready(pod)
        ]

    async def _reconcile_for_ever(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            self._reconcile()

    def _reconcile(self) -> None:
        """One look at everything; what it changes wakes it again, until nothing is left to change."""
        owners: set[str] = set()
        for resource in (*self._unordered, "statefulsets", "leaderworkersets"):
            for owner in self._store.all(resource):
                owners.add(owner["metadata"]["uid"])
                mine = [pod for pod in self._store.all("pods") if owner_uid(pod) == owner["metadata"]["uid"]]
                for pod in mine:
                    # Only a ReplicaSet leaves them for the garbage collector.
                    if resource not in self._unordered and pod["status"]["phase"] == "Failed":
                        self._delete(pod)
                match resource:
                    case "statefulsets":
                        self._ordered(owner, mine)
                    case "leaderworkersets":
                        self._grouped(owner, mine)
                    case _:
                        self._counted(owner, mine)
                self._report(resource, owner)
        for pod in self._store.all("pods"):
            if owner_uid(pod) and owner_uid(pod) not in owners:
                self._delete(pod)
        for pod in self._store.all("pods"):
            if owner_uid(pod):
                self._move(pod)

    def _counted(self, owner: Json, mine: list[Json]) -> None:
        active = [pod for pod in mine if is_active(pod)]
        wanted = owner["spec"].get("replicas", 1)
        for pod in in_order_of_deletion(active)[: max(0, len(active) - wanted)]:
            self._delete(pod)
        for _ in range(wanted - len(active)):
            suffix = "".join(self._rng.choices(string.ascii_lowercase + string.digits, k=5))
            self._make(owner, owner["spec"]["template"], f"{owner['metadata']['name']}-{suffix}", {})

    def _ordered(self, owner: Json, mine: list[Json]) -> None:
        """By ordinal, one at a time unless the policy is Parallel: the next comes when those before it are ready."""
        wanted = owner["spec"].get("replicas", 1)
        parallel = owner["spec"].get("podManagementPolicy") == "Parallel"
        name = owner["metadata"]["name"]
        there = {int(pod["metadata"]["name"].rpartition("-")[2]): pod for pod in mine}
        surplus = sorted((ordinal for ordinal in there if ordinal >= wanted), reverse=True)
        for ordinal in surplus if parallel else surplus[:1]:
            self._delete(there[ordinal])
        for ordinal in range(wanted):
            if ordinal not in there:
                label = {"statefulset.kubernetes.io/pod-name": f"{name}-{ordinal}"}
                self._make(owner, owner["spec"]["template"], f"{name}-{ordinal}", label)
            elif is_ready(there[ordinal]):
                continue
            if not parallel:
                return

    def _grouped(self, owner: Json, mine: list[Json]) -> None:
        """Groups of a leader and its workers, by ordinal; a group goes as a whole, the last one first."""
        wanted = owner["spec"].get("replicas", 1)
        group = owner["spec"]["leaderWorkerTemplate"]
        name = owner["metadata"]["name"]
        there = {pod["metadata"]["name"] for pod in mine}
        for pod in mine:
            if int(pod["metadata"]["labels"][f"{_GROUPS}/group-index"]) >= wanted:
                self._delete(pod)
        for ordinal in range(wanted):
            for worker in range(group.get("size", 1)):
                called = f"{name}-{ordinal}" if worker == 0 else f"{name}-{ordinal}-{worker}"
                template = group["workerTemplate"] if worker else group.get("leaderTemplate", group["workerTemplate"])
                labels = {"name": name, "group-index": str(ordinal), "worker-index": str(worker)}
                if called not in there:
                    self._make(owner, template, called, {f"{_GROUPS}/{key}": value for key, value in labels.items()})

    def _make(self, owner: Json, template: Json, name: str, labels: Json) -> None:
        self._store.put("pods", pod_from_template(owner, template, name, labels))

    def _delete(self, pod: Json) -> None:
        if "deletionTimestamp" not in pod["metadata"]:
            metadata = pod["metadata"]
            where = Target(
                group="", version="v1", resource="pods", namespace=metadata["namespace"], name=metadata["name"]
            )
            self._store.delete(where)

    def _move(self, pod: Json) -> None:
        """One step of a pod's life."""
        uid = pod["metadata"]["uid"]
        now = self._store.now()
        if "deletionTimestamp" in pod["metadata"]:
            if not self.hold_terminating and uid not in self._ending:
                self._ending.add(uid)
                self._keep(self._end(pod), f"end of {pod['metadata']['name']}")
        elif not is_active(pod):
            return
        elif not pod["spec"].get("nodeName"):
            placed = sum(bool(other["spec"].get("nodeName")) and is_active(other) for other in self._store.all("pods"))
            if self.capacity is not None and placed >= self.capacity:
                self._store.put("pods", pod_states.unschedulable(pod, now))
            else:
                self._store.put("pods", pod_states.assigned(pod, self.node_of(pod), now))
        elif uid not in self._begun:
            if not self.hold_starting:
                self._begun.add(uid)
                self._keep(self._begin(pod), f"start of {pod['metadata']['name']}")
        elif pod["status"]["phase"] == "Running" and is_ready(pod) == (pod["metadata"]["name"] in self.unready):
            self._store.put("pods", pod_states.running(pod, not is_ready(pod), now))

    async def _begin(self, pod: Json) -> None:
        name, namespace, uid = (pod["metadata"][key] for key in ("name", "namespace", "uid"))
        if "podIP" not in pod["status"]:
            pod = pod_states.addressed(pod, self._address(), self._store.now())
            self._store.put("pods", pod)
        await self._start(pod)
        current = self._store.find("pods", name, namespace)
        if current and current["metadata"]["uid"] == uid and uid in self._begun and is_active(current):
            self._store.put("pods", pod_states.running(current, name not in self.unready, self._store.now()))

    async def _end(self, pod: Json) -> None:
        if pod["metadata"]["uid"] in self._begun:
            await self._stop(pod)
        self._begun.discard(pod["metadata"]["uid"])
        self._store.remove("pods", pod["metadata"]["name"], pod["metadata"]["namespace"])

    def _address(self) -> str:
        """Unlike those of other processes on this machine, as far as that is possible."""
        number = next(self._addresses)
        return f"127.{1 + os.getpid() % 250}.{number // 250}.{1 + number % 250}"

    def _report(self, resource: str, owner: Json) -> None:
        mine = [pod for pod in self._store.all("pods") if owner_uid(pod) == owner["metadata"]["uid"] and is_active(pod)]
        if resource == "leaderworkersets":
            mine = [pod for pod in mine if pod["metadata"]["labels"][f"{_GROUPS}/worker-index"] == "0"]
        ready = sum(map(is_ready, mine))
        status = {"replicas": len(mine), "readyReplicas": ready, "observedGeneration": owner["metadata"]["generation"]}
        if resource != "leaderworkersets":
            status |= {"availableReplicas": ready}
        name, namespace = owner["metadata"]["name"], owner["metadata"]["namespace"]
        self._store.change(resource, name, {"status": status}, namespace)

    def _keep(self, work: Any, name: str) -> None:
        self._tasks[asyncio.create_task(work, name=name)] = None
