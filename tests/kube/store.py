"""The objects of the fake API server: versions, optimistic locking, history.

A stored object is never changed in place; `find`, `get` and `all` give copies, the rest must not be changed by who
gets it. Methods that take a `Target` behave and refuse as the real server does. The others are for tests: they write
what they are given, status included.
"""

import copy
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any

from tests.kube.merge import claim_replicas, merged
from tests.kube.scale import scale_from_object
from tests.kube.selector import Predicate
from tests.kube.status import already_exists, bad_request, conflict, expired, invalid, not_found
from tests.kube.target import KINDS, WITH_STATUS, Target
from tests.kube.validate import validate

Json = dict[str, Any]
Place = tuple[str, str]
"""Group and resource."""
Key = tuple[str, str]
"""Namespace, empty for cluster-wide objects, and name."""

SCALED = frozenset({"deployments", "statefulsets", "replicasets", "leaderworkersets"})
"""Resources that have one replica where nothing is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """`old` is None for a new object, `new` for one that is gone; then `last` carries the version of the deletion."""

    version: int
    place: Place
    namespace: str
    old: Json | None
    new: Json | None
    last: Json


class Store:
    """`clock` gives wall-clock seconds: creation times and times of ownership come from it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.version = 100
        self.history: list[Change] = []
        self.oldest = self.version
        """Watches that start before this version are refused."""
        self.graceful: set[str] = set()
        """Resources whose objects are only marked by a DELETE: something else removes them."""
        self.kinds = dict(KINDS)
        self.listeners: list[Callable[[], None]] = []
        """Called after each change."""
        self._clock = clock
        self._objects: dict[Place, dict[Key, Json]] = {}
        self._suffixes = count()

    def now(self) -> str:
        return datetime.fromtimestamp(self._clock(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def compact(self) -> None:
        """Forget the history: watches and continued lists from before are refused from here on."""
        self.oldest = self.version

    # As the API does it

    def read(self, target: Target) -> Json:
        item = self._existing(target)
        return scale_from_object(item) if target.subresource == "scale" else item

    def matching(self, target: Target, fits: Predicate) -> list[Json]:
        """In the order of their keys, as the real server lists them."""
        found = self._objects.get((target.group, target.resource), {})
        return [
            item for (namespace, _), item in sorted(found.items()) if target.namespace in ("", namespace) and fits(item)
        ]

    def since(self, version: int) -> Iterable[Change]:
        """Changes after `version`. Raises the server's 410 if they are not all known."""
        if version < self.oldest:
            raise expired(f"too old resource version: {version} ({self.oldest})")
        return self.history[version - self.version :] if version < self.version else ()

    def create(self, target: Target, body: Json, *, manager: str) -> Json:
        item = copy.deepcopy(body)
        metadata = item.setdefault("metadata", {})
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = f"{metadata['generateName']}{next(self._suffixes):05x}"
        if not metadata.get("name"):
            raise invalid("metadata.name: Required value: name or generateName is required")
        if target.namespace and metadata.setdefault("namespace", target.namespace) != target.namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        if (target.namespace, metadata["name"]) in self._objects.get((target.group, target.resource), {}):
            raise already_exists(target.qualified, metadata["name"])
        if target.resource in WITH_STATUS:
            item.pop("status", None)
        if target.resource in SCALED:
            item.setdefault("spec", {}).setdefault("replicas", 1)
        validate(target, item, None)
        self._complete(target, item, None)
        claim_replicas(None, item, manager=manager, subresource="", api_version=target.api_version, at=self.now())
        return self._commit((target.group, target.resource), target.namespace, None, item)

    def replace(self, target: Target, body: Json, *, manager: str) -> Json:
        """Without a resourceVersion in the body it is unconditional."""
        return self._write(target, body, manager=manager, whole=True)

    def patch(self, target: Target, body: Json, *, manager: str) -> Json:
        return self._write(target, body, manager=manager, whole=False)

    def delete(self, target: Target, *, uid: str | None = None, version: str | None = None) -> Json:
        """Removes, or marks with a deletionTimestamp what has finalizers or is in `graceful`."""
        old = self._existing(target)
        if uid is not None and uid != old["metadata"]["uid"]:
            because = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {old['metadata']['uid']}"
            raise conflict(target.qualified, target.name, because)
        if version is not None and version != old["metadata"]["resourceVersion"]:
            raise conflict(target.qualified, target.name)
        place = (target.group, target.resource)
        if target.resource in self.graceful or old["metadata"].get("finalizers"):
            new = copy.deepcopy(old)
            new["metadata"].setdefault("deletionTimestamp", self.now())
            return self._commit(place, target.namespace, old, new)
        return self._commit(place, target.namespace, old, None)

    # For tests

    def put(self, resource: str, item: Json) -> Json:
        """Create or replace, whatever is there; what is equal stays as it is.

        Without a namespace in the object it is cluster-wide.
        """
        group, _, version = item["apiVersion"].rpartition("/")
        metadata = item["metadata"]
        target = Target(
            group=group,
            version=version,
            resource=resource,
            namespace=metadata.get("namespace", ""),
            name=metadata["name"],
        )
        old = self._objects.get((group, resource), {}).get((target.namespace, target.name))
        new = copy.deepcopy(item)
        self._complete(target, new, old)
        if "managedFields" not in metadata:
            claim_replicas(old, new, manager="test", subresource="", api_version=target.api_version, at=self.now())
        if new == old:
            return old
        return self._commit((group, resource), target.namespace, old, new)

    def find(self, resource: str, name: str, namespace: str = "default") -> Json | None:
        """A copy; None if there is none. Cluster-wide objects are found under any namespace."""
        for (_, known), items in self._objects.items():
            for key in ((namespace, name), ("", name)):
                if known == resource and key in items:
                    return copy.deepcopy(items[key])
        return None

    def get(self, resource: str, name: str, namespace: str = "default") -> Json:
        """As `find`; fails if there is none."""
        found = self.find(resource, name, namespace)
        assert found is not None, f"no {resource} {namespace}/{name}"
        return found

    def all(self, resource: str, namespace: str | None = None) -> list[Json]:
        """Copies, by name; of every namespace where none is given."""
        return [
            copy.deepcopy(item)
            for (_, known), items in self._objects.items()
            if known == resource
            for (where, _), item in sorted(items.items())
            if namespace in (None, where)
        ]

    def change(self, resource: str, name: str, patch: Json, namespace: str = "default") -> Json:
        """Merge into any part, status included."""
        return self.put(resource, merged(self.get(resource, name, namespace), patch))

    def remove(self, resource: str, name: str, namespace: str = "default") -> None:
        """At once, whatever finalizers say. Nothing happens if it is gone."""
        for place, items in self._objects.items():
            for key in ((namespace, name), ("", name)):
                if place[1] == resource and key in items:
                    self._commit(place, key[0], items[key], None)
                    return

    def _existing(self, target: Target) -> Json:
        try:
            return self._objects[(target.group, target.resource)][(target.namespace, target.name)]
        except KeyError:
            raise not_found(target.qualified, target.name) from None

    def _write(self, target: Target, body: Json, *, manager: str, whole: bool) -> Json:
        old = self._existing(target)
        asked = (body.get("metadata") or {}).get("resourceVersion")
        if asked is not None and asked != old["metadata"]["resourceVersion"]:
            raise conflict(target.qualified, target.name)
        if whole and asked is None and target.resource == "leases":
            raise invalid("metadata.resourceVersion: Invalid value: must be specified for an update")
        if target.subresource == "scale":
            base = {} if whole else scale_from_object(old)
            wanted = merged(base, body).get("spec", {}).get("replicas", 0)
            if not isinstance(wanted, int) or wanted < 0:
                raise invalid("spec.replicas: Invalid value: must be greater than or equal to 0")
            new = merged(old, {"spec": {"replicas": wanted}})
        elif target.subresource == "status":
            new = copy.deepcopy(old)
            new["status"] = copy.deepcopy(body.get("status", {})) if whole else merged(old, body).get("status", {})
        else:
            new = copy.deepcopy(body) if whole else merged(old, body)
            if target.resource in WITH_STATUS:
                new["status"] = old.get("status", {})
            if (new.get("metadata") or {}).get("name") != target.name:
                raise bad_request("the name of the object does not match the name on the URL")
        validate(target, new, old)
        self._complete(target, new, old)
        claim_replicas(
            old,
            new,
            manager=manager,
            subresource=target.subresource,
            api_version="autoscaling/v1" if target.subresource == "scale" else target.api_version,
            at=self.now(),
        )
        if new == old:
            return self.read(target)
        place = (target.group, target.resource)
        gone = "deletionTimestamp" in new["metadata"] and not new["metadata"].get("finalizers")
        if gone and target.resource not in self.graceful:
            return self._commit(place, target.namespace, old, None)
        self._commit(place, target.namespace, old, new)
        return self.read(target)

    def _complete(self, target: Target, new: Json, old: Json | None) -> None:
        """What the server alone decides: identity, kind, generation."""
        metadata = new["metadata"]
        self.kinds.setdefault(target.resource, new.get("kind", target.resource))
        new.setdefault("apiVersion", target.api_version)
        new.setdefault("kind", self.kinds[target.resource])
        before = (old or {}).get("metadata", {})
        metadata["uid"] = before.get("uid") or metadata.get("uid") or str(uuid.uuid4())
        created = before.get("creationTimestamp") or metadata.get("creationTimestamp") or self.now()
        metadata["creationTimestamp"] = created
        metadata["resourceVersion"] = before.get("resourceVersion", "")
        if "deletionTimestamp" in before:
            metadata["deletionTimestamp"] = before["deletionTimestamp"]
        if "spec" in new:
            changed = old is not None and old.get("spec") != new["spec"]
            metadata["generation"] = before.get("generation", 1) + changed

    def _commit(self, place: Place, namespace: str, old: Json | None, new: Json | None) -> Json:
        """Every change has the next version, so that a position in the history is a difference of versions."""
        self.version += 1
        last = copy.deepcopy(new if new is not None else old)
        assert last is not None
        last["metadata"]["resourceVersion"] = str(self.version)
        key = (namespace, last["metadata"]["name"])
        if new is None:
            del self._objects[place][key]
        else:
            self._objects.setdefault(place, {})[key] = last
        self.history.append(
            Change(
                version=self.version,
                place=place,
                namespace=namespace,
                old=old,
                new=None if new is None else last,
                last=last,
            )
        )
        for listener in self.listeners:
            listener()
        return last
