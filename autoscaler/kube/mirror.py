"""A copy of what a server has, kept up to date by lists and events: what changes with each of them."""

from collections.abc import Iterable, Iterator, Mapping

from autoscaler.kube.names import Json

Change = tuple[str, Json | None, Json | None]
"""Key, the object before, the object after; None where there is none."""


def key_of(item: Json) -> str:
    """`namespace/name`; the name alone for a cluster-wide object."""
    metadata = item["metadata"]
    namespace = metadata.get("namespace")
    return f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])


class Mirror:
    """Objects by key, as of `version`; empty at first, with `version` None until the first list.

    Objects are replaced, never changed in place. A change of `uid` between before and after means that the object was
    deleted and made again in between.
    """

    def __init__(self) -> None:
        self.version: str | None = None
        self._objects: dict[str, Json] = {}

    @property
    def objects(self) -> Mapping[str, Json]:
        return self._objects

    def forget_version(self) -> None:
        """The server does not know it any more: the next must be a list. The objects stay."""
        self.version = None

    def replace(self, items: Iterable[Json], version: str) -> Iterator[Change]:
        """Take over a whole list. Yields what differs, gone objects included, after everything has been taken over."""
        before, self._objects = self._objects, {key_of(item): item for item in items}
        self.version = version
        for key, old in before.items():
            if key not in self._objects:
                yield key, old, None
        for key, new in self._objects.items():
            known = before.get(key)
            if known is None or _version(known) != _version(new):
                yield key, known, new

    def apply(self, kind: str, item: Json) -> Change | None:
        """Take over one event; None if it is a bookmark, or tells nothing that is not known.

        Events that come twice or late change nothing: versions of one resource only grow.
        """
        version = _version(item)
        if kind == "BOOKMARK":
            self._advance(version)
            return None
        key = key_of(item)
        known = self._objects.get(key)
        if kind == "DELETED":
            self._advance(version)
            if known is None or _newer(_version(known), version):
                return None
            del self._objects[key]
            return key, known, None
        if self.version is not None and not _newer(version, self.version):
            return None
        self._advance(version)
        self._objects[key] = item
        return key, known, item

    def _advance(self, version: str) -> None:
        if version and (self.version is None or _newer(version, self.version)):
            self.version = version


def _version(item: Json) -> str:
    return str(item["metadata"].get("resourceVersion", ""))


def _newer(version: str, than: str) -> bool:
    """Whether a version is later than another. Those that are no numbers have no order: then it is, if it differs."""
    if version.isdigit() and than.isdigit():
        return int(version) > int(than)
    return version != than
