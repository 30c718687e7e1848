"""Objects from the bytes of lists and watches, at little cost for many of them."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypedDict

import msgspec

from autoscaler.kube.names import Json

Trim = Callable[[Json], None]


class _Metadata(TypedDict, total=False):
    """All of ObjectMeta but managedFields, which is skipped and not built: two fifths of a pod's bytes."""

    name: str
    generateName: str
    namespace: str
    uid: str
    resourceVersion: str
    generation: int
    creationTimestamp: Any
    deletionTimestamp: str
    deletionGracePeriodSeconds: int
    labels: Any
    annotations: Any
    ownerReferences: Any
    finalizers: Any


class _Page(msgspec.Struct):
    kind: str = ""
    apiVersion: str = ""  # noqa: N815
    metadata: Json | None = None
    items: list[dict[str, msgspec.Raw]] | None = None


class _Event(msgspec.Struct):
    type: str
    object: dict[str, msgspec.Raw]


_page = msgspec.json.Decoder(_Page)
_event = msgspec.json.Decoder(_Event)
_metadata = msgspec.json.Decoder(_Metadata)
_any = msgspec.json.Decoder()


def without_managed_fields(item: Json) -> None:
    """Drop metadata.managedFields. As the `trim` of a list or a watch, they are not even decoded."""
    metadata = item.get("metadata")
    if isinstance(metadata, dict):
        metadata.pop("managedFields", None)


def page_from_bytes(body: bytes, trim: Trim | None) -> tuple[list[Json], Json]:
    """Trimmed objects of a page, with the kind and apiVersion that the server leaves out in lists; the page's metadata.

    Raises `msgspec.DecodeError`.
    """
    with _without_collection():
        page = _page.decode(body)
        kind = page.kind.removesuffix("List")
        items = [_object(parts, trim) for parts in page.items or ()]
        for item in items:
            item["kind"], item["apiVersion"] = kind, page.apiVersion
        return items, page.metadata or {}


def event_from_line(line: bytes, trim: Trim | None) -> tuple[str, Json]:
    """The type of a watch event, and its trimmed object. Raises `msgspec.DecodeError`."""
    event = _event.decode(line)
    return event.type, _object(event.object, trim)


def _object(parts: dict[str, msgspec.Raw], trim: Trim | None) -> Json:
    if trim is without_managed_fields:
        return {
            name: _metadata.decode(part) if name == "metadata" else _any.decode(part) for name, part in parts.items()
        }
    item = {name: _any.decode(part) for name, part in parts.items()}
    if trim is not None:
        trim(item)
    return item


@contextmanager
def _without_collection() -> Iterator[None]:
    """For a short while without an await. JSON has no cycles, and the collector would look for some all the time.

    A page has a hundred thousand containers: looking takes four times as long as decoding.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
