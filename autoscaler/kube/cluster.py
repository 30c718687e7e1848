"""What all pools of a process share in one cluster: the API, the watches, the nodes' GPUs."""

import asyncio
from collections.abc import Callable

import structlog

from autoscaler.kube.api import KubeApi, without_managed_fields
from autoscaler.kube.errors import KubeError, NotFound
from autoscaler.kube.held import Held
from autoscaler.kube.names import Json
from autoscaler.kube.nodes import NodeGpus
from autoscaler.kube.pod_index import PodIndex
from autoscaler.kube.rivals import rival_of
from autoscaler.kube.target import KINDS, Target, selector_from_scale, state_from_json
from autoscaler.kube.watch import Watch

RETRY_S = 5.0
RIVALS_S = 60.0
"""Between two looks for another writer of `replicas`."""
_log = structlog.get_logger("autoscaler")


class Cluster:
    """Keeps targets and their pods current. One per process; `run` does the work."""

    def __init__(
        self,
        api: KubeApi,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        leads: Callable[[], bool],
        read_nodes: bool = False,
    ) -> None:
        """`clock` tells the time of day; `leads` is asked right before each write."""
        self.api = api
        self.clock = clock
        self._monotonic = monotonic
        self.leads = leads
        self.nodes = NodeGpus(api) if read_nodes else None
        self._indexes: dict[str, PodIndex] = {}
        self._pods: dict[str, Watch] = {}
        self._watches: list[tuple[Held, Watch]] = []
        self.rivals: dict[str, str] = {}
        """Label of a target -> who else writes its `replicas`."""

    @property
    def watches(self) -> tuple[Watch, ...]:
        """Of targets and of pods."""
        return (*(watch for _, watch in self._watches), *self._pods.values())

    def hold(self, target: Target) -> Held:
        """Keep a target current from now on. To be called before `run`."""
        held = Held(target=target)
        watch = Watch(
            self.api,
            target.collection,
            fields=f"metadata.name={target.name}",
            clock=self._monotonic,
            name=target.label,
            on_change=lambda _key, old, new: self._seen(held, old, new),
        )
        self._watches.append((held, watch))
        if target.namespace not in self._pods:
            index = PodIndex()
            self._indexes[target.namespace] = index
            self._pods[target.namespace] = Watch(
                self.api,
                f"/api/v1/namespaces/{target.namespace}/pods",
                clock=self._monotonic,
                trim=without_managed_fields,
                name=f"pods of {target.namespace}",
                on_change=lambda _key, old, new: index.change(old, new),
            )
        return held

    def uid_of(self, target: Target) -> str | None:
        """`None` until the target was read."""
        return next((held.seen.uid for held, _ in self._watches if held.target == target and held.seen), None)

    async def run(self, stop_event: asyncio.Event) -> None:
        """Watch until `stop_event`."""
        async with asyncio.TaskGroup() as group:
            for watch in self.watches:
                group.create_task(watch.run(stop_event), name=f"watch {watch.name}")
            for held, watch in self._watches:
                group.create_task(self._tend(held, watch, stop_event), name=f"target {held.target.label}")
            group.create_task(self._seek_rivals(stop_event), name="look for other writers of replicas")
            if self.nodes is not None:
                group.create_task(self.nodes.run(stop_event), name="read the GPUs of nodes")

    def _seen(self, held: Held, old: Json | None, new: Json | None) -> None:
        target = held.target
        if old is not None and held.bucket is not None and (new is None or _uid(new) != _uid(old)):
            # Another object under the same name has another selector, and nothing of what was intended.
            self._indexes[target.namespace].remove(held.bucket)
            held.reset()
        if new is None:
            held.seen, held.missing = None, f"{target.label} does not exist"
        elif target.kind.name in KINDS:
            held.seen, held.missing = state_from_json(new, before=held.seen), None
        # Of another kind, only `/scale` says how many replicas there are: `_tend` reads it.

    async def _tend(self, held: Held, watch: Watch, stop_event: asyncio.Event) -> None:
        """Find the selector of a target's pods, and read `/scale` of kinds that need it."""
        target = held.target
        version = None
        while not stop_event.is_set():
            item = next(iter(watch.objects.values()), None)
            if watch.synced and item is None and held.seen is None:
                held.missing = f"{target.label} does not exist"
            changed = item is not None and item["metadata"].get("resourceVersion") != version
            if item is not None and self._pods[target.namespace].synced and (held.bucket is None or changed):
                try:
                    version = item["metadata"].get("resourceVersion")
                    await self._read_scale(held, item)
                except (KubeError, ValueError) as error:
                    version = None
                    held.missing = f"{target.label}: {error}"
                    await _pause(stop_event, RETRY_S)
            await _pause(stop_event, 0.2 if held.bucket is None or target.kind.name not in KINDS else RETRY_S)

    async def _read_scale(self, held: Held, item: Json) -> None:
        target = held.target
        if held.bucket is not None and target.kind.name in KINDS:
            return  # A selector of these cannot change.
        scale = await self.api.get(target.scale_path)
        if held.bucket is None:
            selector = selector_from_scale(scale)
            held.bucket = self._indexes[target.namespace].add(selector, self._pods[target.namespace].objects)
        if target.kind.name not in KINDS:
            replicas = (scale.get("spec") or {}).get("replicas", 0)
            held.seen = state_from_json(item, replicas, before=held.seen)
        held.missing = None

    async def _seek_rivals(self, stop_event: asyncio.Event) -> None:
        """Look for autoscalers of others that point at our targets."""
        namespaces = sorted(self._pods)
        said: set[str] = set()
        while not stop_event.is_set():
            for namespace in namespaces:
                targets = [held.target for held, _ in self._watches if held.target.namespace == namespace]
                try:
                    listing = await self.api.list(
                        f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers"
                    )
                except NotFound:
                    continue
                except KubeError as error:
                    if namespace not in said:
                        said.add(namespace)
                        _log.warning("autoscalers of others cannot be listed", namespace=namespace, cause=error.cause)
                    continue
                for target in targets:
                    rival = rival_of(target, listing.items)
                    if rival is None:
                        self.rivals.pop(target.label, None)
                    else:
                        self.rivals[target.label] = rival
            await _pause(stop_event, RIVALS_S)


def _uid(item: Json) -> str:
    return str(item["metadata"].get("uid"))


async def _pause(stop_event: asyncio.Event, limit_s: float) -> None:
    try:
        async with asyncio.timeout(limit_s):
            await stop_event.wait()
    except TimeoutError:
        return
