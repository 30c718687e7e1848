"""The made-up pods of the benchmark come whole, in pages and as events."""

from autoscaler.kube.decode import event_from_line, page_from_bytes, without_managed_fields
from autoscaler.kube.mirror import Mirror
from benchmarks.kube_pods import PAGE_PODS, events, pages, pod


def test_pages_hold_every_pod_once_and_events_follow_them() -> None:
    pods = PAGE_PODS + 3
    mirror = Mirror()
    items = []
    first, second = pages(pods)
    for body, token in ((first, "1"), (second, None)):
        page, metadata = page_from_bytes(body, None)
        assert metadata.get("continue") == token
        items += page
    assert sum(1 for _ in mirror.replace(items, metadata["resourceVersion"])) == pods
    changes = [mirror.apply(*event_from_line(line, None)) for line in events(pods, 4)]
    assert all(change is not None and change[1] is not None for change in changes)


def test_a_third_of_a_pod_or_more_is_managed_fields() -> None:
    item = pod(1, 1)
    whole = len(str(item))
    without_managed_fields(item)
    assert len(str(item)) < whole * 2 / 3
