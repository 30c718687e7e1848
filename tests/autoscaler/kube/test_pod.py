from typing import Any

import pytest

from autoscaler.kube.names import DELETION_COST, DRAINING_SINCE
from autoscaler.kube.pod import draining_patch, instant_s, pod_from_json, record_of, rfc3339
from backlog.records import ReplicaState
from tests.autoscaler.kube.pods import NOON_S, a_pod, pod_json


def test_a_pod_is_read_from_its_json() -> None:
    pod = pod_from_json(pod_json())

    assert pod == a_pod(restarts=1)


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_ended_is_no_replica(phase: str) -> None:
    assert pod_from_json(pod_json(phase=phase)) is None


def test_a_pod_without_status_is_neither_ready_nor_scheduled() -> None:
    pod = pod_from_json({"metadata": {"name": "x-7", "uid": "u"}})

    assert pod is not None
    assert (pod.ready, pod.running, pod.node, pod.ip, pod.ready_at_s) == (False, False, None, None, None)
    assert pod.ordinal == 7


def test_the_scheduler_s_reason_is_kept_for_a_pod_without_room() -> None:
    item = pod_json(ready=False, phase="Pending")
    item["status"]["conditions"][0] = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes have a free GPU",
    }

    pod = pod_from_json(item)

    assert pod is not None
    assert pod.unschedulable == "0/3 nodes have a free GPU"


def test_the_mark_of_a_draining_pod_is_read_back() -> None:
    pod = pod_from_json(pod_json(draining_since_s=NOON_S + 5))

    assert pod is not None
    assert (pod.draining_since_s, pod.deletion_cost) == (NOON_S + 5, -1000)


def test_a_deletion_cost_that_is_no_number_counts_as_none() -> None:
    pod = pod_from_json(pod_json(annotations={DELETION_COST: "low"}))

    assert pod is not None
    assert pod.deletion_cost == 0


def test_marking_and_unmarking_touch_two_annotations() -> None:
    assert draining_patch(NOON_S, -1000) == {
        "metadata": {"annotations": {DRAINING_SINCE: rfc3339(NOON_S), DELETION_COST: "-1000"}}
    }
    assert draining_patch(None, 0) == {"metadata": {"annotations": {DRAINING_SINCE: None, DELETION_COST: None}}}


STATES: dict[str, tuple[dict[str, Any], bool, ReplicaState, str]] = {
    "ready": ({}, False, ReplicaState.READY, "http://127.0.1.1:8000"),
    "not ready": ({"ready": False}, False, ReplicaState.STARTING, "http://127.0.1.1:8000"),
    "without an address": ({"ready": False, "ip": None}, False, ReplicaState.STARTING, "http://chat-1.invalid:8000"),
    "IPv6": ({"ip": "fd00::7"}, False, ReplicaState.READY, "http://[fd00::7]:8000"),
    "draining": ({}, True, ReplicaState.DRAINING, "http://127.0.1.1:8000"),
    "terminating": ({"terminating": True}, False, ReplicaState.DRAINING, "http://127.0.1.1:8000"),
}


@pytest.mark.parametrize(("changes", "draining", "state", "url"), STATES.values(), ids=STATES)
def test_gateways_see_a_pod_as(changes: dict[str, Any], draining: bool, state: ReplicaState, url: str) -> None:
    record = record_of(a_pod(**changes), port=8000, draining=draining, gpu="H100", ratio=1.5)

    assert (record.state, record.url, record.name) == (state, url, "chat-1")
    assert (record.gpu, record.ratio) == ("H100", 1.5)


@pytest.mark.parametrize("text", [None, 3, "", "yesterday"])
def test_what_is_no_time_is_unknown(text: object) -> None:
    assert instant_s(text) is None


def test_a_time_is_read_as_it_is_written() -> None:
    assert instant_s(rfc3339(NOON_S)) == NOON_S


@pytest.mark.parametrize(
    ("terminating", "drained", "expected"),
    [(False, False, False), (False, True, True), (True, False, True)],
    ids=["still draining", "drained", "on its way out"],
)
def test_a_pod_that_may_go_or_goes_is_drained(terminating: bool, drained: bool, expected: bool) -> None:
    pod = a_pod(terminating=terminating)
    record = record_of(pod, port=8000, draining=True, drained=drained, gpu=None, ratio=1.0)
    assert (record.state, record.drained) == (ReplicaState.DRAINING, expected)
