from typing import Any

import pytest

from autoscaler.kube.victims import removable, removal_order, to_drain
from tests.autoscaler.kube.pods import NOON_S, a_pod

FIRST_TO_GO: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "no node before a node": ({"node": None, "running": False, "ready": False}, {"running": False, "ready": False}),
    "pending before running": ({"running": False, "ready": False}, {"ready": False}),
    "not ready before ready": ({"ready": False}, {}),
    "not ready before a lower deletion cost": ({"ready": False}, {"deletion_cost": -1000}),
    "lower deletion cost before higher": ({"deletion_cost": -1000}, {}),
    "ready for a shorter time before longer": ({"at_s": NOON_S + 9}, {}),
    "more restarts before fewer": ({"restarts": 2}, {}),
}


@pytest.mark.parametrize(("first", "second"), FIRST_TO_GO.values(), ids=FIRST_TO_GO)
def test_a_replica_set_removes(first: dict[str, Any], second: dict[str, Any]) -> None:
    pods = [a_pod("b", **second), a_pod("a", **first)]

    assert [pod.name for pod in removal_order(pods, by_ordinal=False)] == ["a", "b"]


def test_the_node_with_more_of_the_set_gives_first() -> None:
    pods = [a_pod("alone", node="n1"), a_pod("two", node="n2"), a_pod("three", node="n2", at_s=NOON_S - 5)]

    assert removal_order(pods, by_ordinal=False)[0].name == "two"


def test_the_newer_pod_goes_first_where_nothing_else_differs() -> None:
    pods = [a_pod("old", ready=False, created_at_s=1.0), a_pod("new", ready=False, created_at_s=2.0)]

    assert removal_order(pods, by_ordinal=False)[0].name == "new"


def test_a_stateful_set_removes_the_highest_number() -> None:
    pods = [a_pod("x-9", deletion_cost=-1000), a_pod("x-10"), a_pod("x-2", ready=False)]

    assert [pod.name for pod in removal_order(pods, by_ordinal=True)] == ["x-10", "x-9", "x-2"]


def test_a_pod_on_its_way_out_is_not_removed_again() -> None:
    assert removal_order([a_pod(terminating=True)], by_ordinal=False) == []


def test_of_pods_that_are_equal_none_is_counted_on() -> None:
    """Times are whole seconds: pods that started together are equal, and the controller takes any of them."""
    pods = [a_pod("done", deletion_cost=-1000), a_pod("busy", deletion_cost=-1000), a_pod("c")]

    assert removable(pods, {"uid-done"}, 1, missing=0) == 0
    assert removable(pods, {"uid-done", "uid-busy"}, 1, missing=0) == 1


def test_replicas_fall_only_as_far_as_the_next_pods_may_go() -> None:
    pods = [a_pod("a", deletion_cost=-1000), a_pod("b", deletion_cost=-1000, at_s=NOON_S - 5), a_pod("c")]
    allowed = {"uid-a"}

    assert removable(pods, allowed, 2, missing=0) == 1
    assert removable(pods, {"uid-b"}, 2, missing=0) == 0
    assert removable(pods, {"uid-a", "uid-b"}, 2, missing=0) == 2


def test_replicas_without_a_pod_yet_cost_nothing() -> None:
    assert removable([a_pod("a")], set(), 3, missing=2) == 2
    assert removable([a_pod("a")], set(), 1, missing=2) == 1


def test_the_least_remaining_work_is_drained_first() -> None:
    pods = [a_pod("a"), a_pod("b"), a_pod("c")]
    work = {"a": (3.0, 2), "b": (0.5, 9), "c": (0.5, 1)}

    assert [pod.name for pod in to_drain(pods, 1, work, by_ordinal=False)] == ["c", "b"]


def test_of_idle_pods_the_one_that_was_ready_last_is_drained() -> None:
    pods = [a_pod("old", at_s=NOON_S - 9), a_pod("new")]

    assert [pod.name for pod in to_drain(pods, 1, {}, by_ordinal=False)] == ["new"]


def test_pods_that_are_not_ready_go_without_being_drained() -> None:
    pods = [a_pod("a"), a_pod("b", ready=False), a_pod("c", ready=False)]

    assert to_drain(pods, 1, {}, by_ordinal=False) == []


def test_by_ordinal_the_ready_ones_among_the_highest_are_drained() -> None:
    pods = [a_pod("x-0"), a_pod("x-1"), a_pod("x-2"), a_pod("x-3", ready=False)]

    assert [pod.name for pod in to_drain(pods, 2, {"x-0": (0.0, 0)}, by_ordinal=True)] == ["x-2"]
