"""Which pods a controller takes when `replicas` falls. Pure.

A ReplicaSet sorts its pods (kubernetes/pkg/controller, `ActivePodsWithRanks`) by: no node before a node; pending
before running; not ready before ready; lower `pod-deletion-cost` first; more replicas of the same set on the node
first; ready for a shorter time first; more restarts first; newer first. A StatefulSet and a LeaderWorkerSet take the
highest ordinals.
"""

from collections import Counter
from collections.abc import Container, Iterable, Mapping
from itertools import groupby

from autoscaler.kube.pod import Pod


def removal_groups(pods: Iterable[Pod]) -> list[list[Pod]]:
    """Pods that are not on their way out, the first to go first. Which of a group goes first is anybody's guess: a
    ReplicaSet's sort is not stable, and its times are whole seconds."""
    live = [pod for pod in pods if not pod.terminating]
    neighbours = Counter(pod.node for pod in live if pod.node is not None)

    def rank(pod: Pod) -> tuple[float, ...]:
        return (
            pod.node is not None,
            pod.running,
            pod.ready,
            pod.deletion_cost,
            -neighbours[pod.node] if pod.node is not None else 0,
            -(pod.ready_at_s or 0.0),
            -pod.restarts,
            -pod.created_at_s,
        )

    return [list(group) for _, group in groupby(sorted(live, key=rank), key=rank)]


def removal_order(pods: Iterable[Pod], *, by_ordinal: bool) -> list[Pod]:
    """One of the orders in which the pods may go."""
    if by_ordinal:
        return sorted((pod for pod in pods if not pod.terminating), key=lambda pod: -pod.ordinal)
    return [pod for group in removal_groups(pods) for pod in group]


def removable(pods: Iterable[Pod], allowed: Container[str], surplus: int, *, missing: int) -> int:
    """By how much `replicas` may fall now so that only allowed pods go, whichever of equal ones the controller takes.

    `allowed`: uids of the pods that may go. `missing`: replicas for which there is no pod yet; they cost nothing.
    """
    count = min(surplus, max(0, missing))
    for group in removal_groups(pods):
        if count >= surplus or any(pod.uid not in allowed for pod in group):
            break
        count = min(surplus, count + len(group))
    return count


def removable_by_ordinal(pods: Iterable[Pod], allowed: Container[str], surplus: int, *, end: int) -> int:
    """As `removable`, where the highest numbers go. `end`: one more than the highest number that there should be. A
    number without a pod costs nothing when it is among the highest, and saves nothing further down."""
    by_number = {pod.ordinal: pod for pod in pods if not pod.terminating}
    count = 0
    while count < surplus:
        pod = by_number.get(end - 1 - count)
        if pod is not None and pod.uid not in allowed:
            break
        count += 1
    return count


def surplus_pods(pods: Iterable[Pod], replicas: int, *, by_ordinal: bool, first: int = 0) -> list[Pod]:
    """The pods that go when there are to be `replicas`. `first`: the lowest number by ordinal."""
    order = removal_order(pods, by_ordinal=by_ordinal)
    if by_ordinal:
        return [pod for pod in order if pod.ordinal >= first + replicas]
    return order[: max(0, len(order) - replicas)]


def to_drain(
    pods: Iterable[Pod],
    wanted: int,
    work: Mapping[str, tuple[float, int]],
    *,
    by_ordinal: bool,
    first: int = 0,
) -> list[Pod]:
    """The pods that must be drained so that `wanted` are left: those that are not ready, and on which nothing runs, go
    without it.

    One that is not ready and has requests in flight (its probe failed for a moment) first, as it goes first; then least
    remaining work, then the one that was ready last. `work`: GPU-seconds and requests in flight by pod name. With
    `by_ordinal` there is no choice: the highest numbers, from `first` + `wanted` on.
    """
    used = [pod for pod in pods if not pod.terminating and (pod.ready or work.get(pod.name, (0.0, 0))[1] > 0)]
    if by_ordinal:
        return surplus_pods(used, wanted, by_ordinal=True, first=first)
    used.sort(key=lambda pod: (pod.ready, *work.get(pod.name, (0.0, 0)), -(pod.ready_at_s or 0.0)))
    return used[: max(0, len(used) - wanted)]
