"""The pods of every target in one namespace, from one watch: each change is looked at once. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from autoscaler.kube.names import Json
from autoscaler.kube.pod import Pod, matches, pod_from_json

Labels = Mapping[str, str]


@dataclass(slots=True, eq=False)
class Bucket:
    """One target's pods by uid. `version` grows with every change."""

    selector: Labels
    pods: dict[str, Pod] = field(default_factory=dict)
    version: int = 0


class PodIndex:
    """Finds the targets of a pod by one label of their selectors, so that a change costs what its targets cost."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[str, str], list[Bucket]] = {}

    def add(self, selector: Labels, pods: Mapping[str, Json]) -> Bucket:
        """A bucket for a target, filled from `pods` (the watch's objects). `selector` must not be empty."""
        bucket = Bucket(selector=selector)
        self._buckets.setdefault(_handle(selector), []).append(bucket)
        for item in pods.values():
            if matches(selector, _labels(item)):
                _put(bucket, item)
        return bucket

    def remove(self, bucket: Bucket) -> None:
        """Forget a bucket that `add` has returned."""
        self._buckets[_handle(bucket.selector)].remove(bucket)

    def change(self, old: Json | None, new: Json | None) -> None:
        """Take over one change of the watch: `None` for what was not there, or is not there any more."""
        if old is not None:
            uid = old["metadata"]["uid"]
            gone = new is None or new["metadata"]["uid"] != uid
            for bucket in self._of(old):
                # Its labels may have changed too: then it is another target's now.
                if uid in bucket.pods and (gone or (new is not None and not matches(bucket.selector, _labels(new)))):
                    del bucket.pods[uid]
                    bucket.version += 1
        if new is not None:
            for bucket in self._of(new):
                _put(bucket, new)

    def _of(self, item: Json) -> list[Bucket]:
        labels = _labels(item)
        return [
            bucket
            for pair in labels.items()
            for bucket in self._buckets.get(pair, ())
            if matches(bucket.selector, labels)
        ]


def _put(bucket: Bucket, item: Json) -> None:
    pod = pod_from_json(item)
    uid = item["metadata"]["uid"]
    if pod is None:
        if bucket.pods.pop(uid, None) is not None:
            bucket.version += 1
    elif bucket.pods.get(uid) != pod:
        bucket.pods[uid] = pod
        bucket.version += 1


def _labels(item: Json) -> Labels:
    return item["metadata"].get("labels") or {}


def _handle(selector: Labels) -> tuple[str, str]:
    """The pair that is looked up. The longest value is the one most likely to be the target's alone."""
    return max(selector.items(), key=lambda pair: len(pair[1]))
