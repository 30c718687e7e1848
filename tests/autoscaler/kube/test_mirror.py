"""What lists and events change in a mirror, whatever order and number they come in."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.kube.mirror import Change, Mirror, key_of


def item(name: str, version: int | str, *, namespace: str = "default") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace, "resourceVersion": str(version)}}


def listed(*items: dict[str, Any], version: int = 10) -> Mirror:
    mirror = Mirror()
    list(mirror.replace(items, str(version)))
    return mirror


def names(changes: list[Change]) -> list[tuple[str, bool, bool]]:
    return [(key, old is not None, new is not None) for key, old, new in changes]


def test_a_key_has_the_namespace_where_there_is_one() -> None:
    assert key_of(item("a", 1)) == "default/a"
    assert key_of({"metadata": {"name": "node-1"}}) == "node-1"


def test_a_list_tells_what_came_changed_and_went() -> None:
    mirror = listed(item("same", 1), item("changed", 2), item("gone", 3))
    changes = list(mirror.replace([item("same", 1), item("changed", 12), item("made", 13)], "20"))
    assert names(changes) == [
        ("default/gone", True, False),
        ("default/changed", True, True),
        ("default/made", False, True),
    ]
    assert (mirror.version, sorted(mirror.objects)) == ("20", ["default/changed", "default/made", "default/same"])


def test_a_list_that_is_older_than_what_is_known_is_taken_over() -> None:
    mirror = listed(item("a", 9), version=10)
    assert names(list(mirror.replace([item("a", 3)], "4"))) == [("default/a", True, True)]
    assert mirror.version == "4"


@pytest.mark.parametrize(
    ("kind", "event", "change", "version"),
    [
        pytest.param("ADDED", item("b", 11), ("default/b", False, True), "11", id="a new object"),
        pytest.param("MODIFIED", item("a", 11), ("default/a", True, True), "11", id="a change"),
        pytest.param("DELETED", item("a", 11), ("default/a", True, False), "11", id="a deletion"),
        pytest.param("DELETED", item("a", 5), ("default/a", True, False), "10", id="a deletion as the object was"),
        pytest.param("DELETED", item("a", 4), None, "10", id="a deletion of a former object"),
        pytest.param("DELETED", item("b", 11), None, "11", id="a deletion of nothing known"),
        pytest.param("MODIFIED", item("a", 5), None, "10", id="an event that was seen"),
        pytest.param("ADDED", item("b", 8), None, "10", id="an event from before the list"),
        pytest.param("BOOKMARK", item("", 15), None, "15", id="a bookmark"),
        pytest.param("BOOKMARK", item("", 3), None, "10", id="an old bookmark"),
        pytest.param("ADDED", item("b", "x7"), ("default/b", False, True), "x7", id="a version that is no number"),
    ],
)
def test_an_event_changes_what_it_says(
    kind: str, event: dict[str, Any], change: tuple[str, bool, bool] | None, version: str
) -> None:
    mirror = listed(item("a", 5))
    found = mirror.apply(kind, event)
    assert (names([found])[0] if found else None) == change
    assert mirror.version == version


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=30),
    st.lists(st.integers(0, 100), max_size=30),
)
def test_repeated_events_change_nothing(history: list[tuple[str, bool]], repeats: list[int]) -> None:
    events: list[tuple[str, dict[str, Any]]] = []
    known: dict[str, dict[str, Any]] = {}
    for version, (name, there) in enumerate(history, start=11):
        if there:
            events.append(("MODIFIED" if name in known else "ADDED", item(name, version)))
            known[name] = item(name, version)
        elif known.pop(name, None):
            events.append(("DELETED", item(name, version)))
    sent = list(events)
    for position in sorted(repeats, reverse=True):
        if position < len(sent):
            sent.insert(position + 1, sent[position])
    mirror = listed()
    changes = [change for change in (mirror.apply(kind, dict(event)) for kind, event in sent) if change]
    assert {key.removeprefix("default/"): value for key, value in mirror.objects.items()} == known
    assert len(changes) == len(events)
