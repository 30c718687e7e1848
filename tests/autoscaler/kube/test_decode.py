"""Objects of lists and watches are what the server sent, less what was not asked for."""

import gc
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.kube.decode import event_from_line, page_from_bytes, without_managed_fields

Json = dict[str, Any]

TEXT = st.text('ab/é"\\', max_size=4)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
METADATA = st.fixed_dictionaries(
    {"name": TEXT, "resourceVersion": TEXT},
    optional={
        "namespace": TEXT,
        "generateName": TEXT,
        "uid": TEXT,
        "generation": st.integers(0, 9),
        "creationTimestamp": st.none() | TEXT,
        "deletionTimestamp": TEXT,
        "deletionGracePeriodSeconds": st.integers(0, 9),
        "labels": st.dictionaries(TEXT, TEXT, max_size=2),
        "annotations": st.none() | st.dictionaries(TEXT, TEXT, max_size=2),
        "ownerReferences": st.lists(VALUES, max_size=2),
        "finalizers": st.lists(TEXT, max_size=2),
        "managedFields": st.lists(VALUES, max_size=2),
    },
)
ITEMS = st.dictionaries(TEXT, VALUES, max_size=3).flatmap(
    lambda more: METADATA.map(lambda metadata: more | {"metadata": metadata})
)


def _without(item: Json) -> Json:
    kept = {name: value for name, value in item["metadata"].items() if name != "managedFields"}
    return item | {"metadata": kept}


@given(items=st.lists(ITEMS, max_size=4))
def test_the_items_of_a_page_are_those_that_were_sent_with_their_kind(items: list[Json]) -> None:
    body = msgspec.json.encode(
        {"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "7"}, "items": items}
    )
    whole = [item | {"kind": "Pod", "apiVersion": "v1"} for item in items]
    assert page_from_bytes(body, None) == (whole, {"resourceVersion": "7"})
    assert page_from_bytes(body, without_managed_fields)[0] == [_without(item) for item in whole]


@given(item=ITEMS)
def test_the_object_of_an_event_is_the_one_that_was_sent(item: Json) -> None:
    line = msgspec.json.encode({"type": "ADDED", "object": item})
    assert event_from_line(line, None) == ("ADDED", item)
    assert event_from_line(line, without_managed_fields) == ("ADDED", _without(item))


def test_another_trim_sees_each_object() -> None:
    body = msgspec.json.encode({"kind": "XList", "items": [{"metadata": {}, "spec": 1}, {"metadata": {}, "spec": 2}]})
    items, metadata = page_from_bytes(body, lambda item: item.pop("spec"))
    assert items == [{"metadata": {}, "kind": "X", "apiVersion": ""}] * 2
    assert metadata == {}


@pytest.mark.parametrize("body", [b'{"items": null}', b"{}"], ids=["null", "missing"])
def test_a_page_without_items_is_empty(body: bytes) -> None:
    assert page_from_bytes(body, None) == ([], {})


@pytest.mark.parametrize("body", [b"", b"[]", b'{"items": [1]}', b'{"items": {}}', b'{"items": [{"metadata": 1}]}'])
def test_what_is_no_list_is_refused_and_collection_goes_on(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        page_from_bytes(body, without_managed_fields)
    assert gc.isenabled()


def test_collection_stays_off_where_it_was_off() -> None:
    gc.disable()
    try:
        page_from_bytes(b"{}", None)
        assert not gc.isenabled()
    finally:
        gc.enable()
