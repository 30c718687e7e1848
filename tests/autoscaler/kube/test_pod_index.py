from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from autoscaler.kube.pod_index import PodIndex
from tests.autoscaler.kube.pods import pod_json

CHAT = {"app": "chat"}


def labelled(name: str = "chat-1", **labels: str) -> dict[str, Any]:
    return pod_json(name, labels=labels)


def test_a_target_starts_with_the_pods_that_are_there() -> None:
    index = PodIndex()

    bucket = index.add(CHAT, {"default/chat-1": labelled(app="chat"), "default/x": labelled("x", app="other")})

    assert list(bucket.pods) == ["uid-chat-1"]


def test_a_change_reaches_every_target_that_selects_the_pod() -> None:
    index = PodIndex()
    chat, both, other = index.add(CHAT, {}), index.add({**CHAT, "tier": "gpu"}, {}), index.add({"app": "other"}, {})

    index.change(None, labelled(app="chat", tier="gpu"))

    assert (len(chat.pods), len(both.pods), len(other.pods)) == (1, 1, 0)


def test_a_pod_that_is_deleted_goes_and_one_of_its_name_is_another() -> None:
    index = PodIndex()
    bucket = index.add(CHAT, {})
    first = labelled(app="chat")
    index.change(None, first)
    second = pod_json("chat-1", labels=CHAT, uid="uid-again")

    index.change(first, second)
    assert list(bucket.pods) == ["uid-again"]
    index.change(second, None)
    assert bucket.pods == {}


def test_a_pod_that_has_ended_is_no_replica_any_more() -> None:
    index = PodIndex()
    bucket = index.add(CHAT, {})
    pod = labelled(app="chat")
    index.change(None, pod)

    index.change(pod, pod_json("chat-1", labels=CHAT, phase="Failed"))

    assert bucket.pods == {}


def test_a_change_that_means_nothing_here_is_no_new_version() -> None:
    index = PodIndex()
    bucket = index.add(CHAT, {})
    pod = labelled(app="chat")
    index.change(None, pod)
    version = bucket.version

    index.change(pod, pod_json("chat-1", labels=CHAT, resourceVersion="77"))

    assert bucket.version == version


def test_a_bucket_that_was_removed_hears_nothing_more() -> None:
    index = PodIndex()
    gone, stays = index.add(CHAT, {}), index.add(CHAT, {})
    index.remove(gone)

    index.change(None, labelled(app="chat"))

    assert (len(gone.pods), len(stays.pods)) == (0, 1)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.sampled_from(["chat", "other"])), max_size=30))
def test_after_any_changes_a_bucket_has_what_its_selector_finds(changes: list[tuple[str, str | None]]) -> None:
    index = PodIndex()
    bucket = index.add(CHAT, {})
    objects: dict[str, dict[str, Any]] = {}

    for name, app in changes:
        new = None if app is None else labelled(name, app=app)
        index.change(objects.get(name), new)
        if new is None:
            objects.pop(name, None)
        else:
            objects[name] = new

    assert set(bucket.pods) == {f"uid-{name}" for name, item in objects.items() if item["metadata"]["labels"] == CHAT}
