"""The replica list of a pool: what gateways are told of its pods. A record is made again only when its pod changes."""

from collections.abc import Callable, Iterable

from autoscaler.kube.held import Held
from autoscaler.kube.intent import Exit
from autoscaler.kube.nodes import NodeGpus
from autoscaler.kube.pod import Pod, record_of
from backlog.records import ReplicaRecord

RatioOf = Callable[[str], float | None]
"""Seconds that a GPU takes for one second of the pool's price; `None` for a GPU that cannot serve it."""


class Listing:
    """Lists pods, oldest first. `nodes`: where GPUs are read from; `None` for the target's own."""

    def __init__(self, nodes: NodeGpus | None, ratio_of: RatioOf) -> None:
        self._nodes = nodes
        self._ratio_of = ratio_of
        self._made: dict[str, tuple[Pod, Exit | None, str | None, ReplicaRecord]] = {}

    def records(self, targets: Iterable[Held]) -> tuple[ReplicaRecord, ...]:
        """The records of all pods of the targets, in an order that stays."""
        made = {}
        listed: list[ReplicaRecord] = []
        for held in targets:
            exits = {} if held.intent is None else held.intent.exits
            mine = []
            for uid, pod in held.pods.items():
                leaving = exits.get(uid)
                gpu = None if self._nodes is None else self._nodes.gpu_of(pod.node)
                known = self._made.get(uid)
                if known is None or known[0] is not pod or known[1] is not leaving or known[2] != gpu:
                    known = (pod, leaving, gpu, self._record(held, pod, leaving, gpu))
                made[uid] = known
                mine.append(known[3])
            mine.sort(key=_age)
            listed += mine
        self._made = made
        return tuple(listed)

    def _record(self, held: Held, pod: Pod, leaving: Exit | None, found: str | None) -> ReplicaRecord:
        target = held.target
        gpu, ratio = target.gpu, target.ratio
        found_ratio = None if found is None or found == gpu else self._ratio_of(found)
        if found_ratio is not None:
            gpu, ratio = found, found_ratio
        drained = leaving is not None and leaving.done is not None
        return record_of(pod, port=target.port, draining=leaving is not None, drained=drained, gpu=gpu, ratio=ratio)


def _age(record: ReplicaRecord) -> tuple[float, str]:
    return record.created_at_s, record.name
