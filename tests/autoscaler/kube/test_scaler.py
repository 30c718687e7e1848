"""The scaler over a real HTTP connection to the fake API server, with pods that come and go."""

import time
from typing import Any

import pytest

from autoscaler.kube.names import DELETION_COST, DRAINING_SINCE, FIELD_MANAGER, PAUSED
from autoscaler.kube.target import LEADER_WORKER_SET, STATEFUL_SET, Kind, Writes
from autoscaler.scaler import ScalingFailed
from backlog.records import ReplicaState
from tests.autoscaler.kube.pool import a_pool, target
from tests.kube.manifests import deployment, leader_worker_set, node, stateful_set
from tests.kube.rbac import Access
from tests.kube.server import FakeServer

READY, DRAINING = ReplicaState.READY, ReplicaState.DRAINING


def annotations(server: FakeServer, pod: str) -> dict[str, str]:
    return dict(server.store.get("pods", pod)["metadata"].get("annotations") or {})


async def test_pods_are_listed_with_their_addresses(server: FakeServer) -> None:
    async with a_pool(server, replicas=2) as pool:
        assert [record.url for record in pool.records()] == [
            f"http://{server.store.get('pods', record.name)['status']['podIP']}:8000" for record in pool.records()
        ]
        fleet = pool.scaler.fleet()
        assert (fleet.desired, fleet.ready, fleet.pending, fleet.draining) == (2, 2, 0, 0)


async def test_up_is_one_patch_of_scale_and_the_pods_become_replicas(server: FakeServer) -> None:
    async with a_pool(server, replicas=1) as pool:
        await pool.apply(4)

        assert pool.replicas() == 4
        assert pool.scaler.fleet().desired == 4
        await pool.until(lambda: len(pool.names(READY)) == 4)
        assert pool.writes() == 1
        await pool.until(lambda: pool.scaler.cold_start_s is not None, "a measured cold start")
        assert pool.scaler.fleet().override is None


async def test_replicas_that_are_still_to_come_are_not_ordered_twice(server: FakeServer) -> None:
    async with a_pool(server, replicas=1) as pool:
        pool.workload.hold_starting = True
        for _ in range(5):
            await pool.apply(3)

        assert (pool.replicas(), pool.writes()) == (3, 1)
        assert pool.scaler.fleet().pending == 2


async def test_down_drains_the_replica_with_the_least_work_and_takes_that_one(server: FakeServer) -> None:
    async with a_pool(server, replicas=3) as pool:
        least, *others = pool.names()
        pool.busy = {least: 1, others[0]: 5, others[1]: 7}

        await pool.apply(2)
        await pool.until(lambda: DRAINING_SINCE in annotations(server, least))

        assert annotations(server, least)[DELETION_COST] == "-1000"
        assert pool.states()[least] == "draining"
        for _ in range(20):
            await pool.scaler.advance(pool.look())
        assert pool.replicas() == 3, "a request runs there"
        pool.busy = {others[0]: 5, others[1]: 7}
        await pool.until(lambda: pool.names() == sorted(others))
        assert pool.replicas() == 2
        assert pool.told == []


async def test_load_that_returns_revives_the_draining_replica(server: FakeServer) -> None:
    async with a_pool(server, replicas=2) as pool:
        one, two = pool.names()
        pool.busy = {one: 1, two: 5}
        await pool.apply(1)
        await pool.until(lambda: DRAINING_SINCE in annotations(server, one))

        await pool.apply(2)

        assert pool.names(READY) == [one, two]
        assert annotations(server, one) == {}
        assert pool.writes() == 0


async def test_a_request_that_never_ends_is_cut_at_the_deadline_and_said_so(server: FakeServer) -> None:
    async with a_pool(server, replicas=2, drain_deadline_s=0.2) as pool:
        one, two = pool.names()
        pool.busy = {one: 1, two: 5}

        await pool.apply(1)
        await pool.until(lambda: pool.names() == [two])

        assert [reason for _, reason, _ in pool.told] == ["DrainDeadline"]


async def test_a_pod_that_dies_while_it_drains_is_not_replaced(server: FakeServer) -> None:
    async with a_pool(server, replicas=3) as pool:
        first, *others = pool.names()
        pool.busy = dict.fromkeys((first, *others), 1)
        pool.busy[others[0]] = pool.busy[others[1]] = 5
        await pool.apply(2)
        await pool.until(lambda: DRAINING_SINCE in annotations(server, first))
        pool.workload.hold_starting = True

        pool.workload.fail(first)

        await pool.until(lambda: pool.replicas() == 2 and pool.names() == sorted(others))
        assert pool.states() == dict.fromkeys(others, "ready")


async def test_when_the_wrong_pod_goes_the_drained_one_serves_again(server: FakeServer) -> None:
    """Somebody deletes a pod between the drain and its end: the drained one is a replica that need not start."""
    async with a_pool(server, replicas=3) as pool:
        first, second, third = pool.names()
        pool.busy = {first: 1, second: 5, third: 5}
        await pool.apply(2)
        await pool.until(lambda: DRAINING_SINCE in annotations(server, first))

        pool.server.store.remove("pods", second)
        pool.workload.hold_starting = True
        pool.server.store.change("deployments", "chat", {"spec": {"replicas": 2}})

        await pool.until(lambda: len(pool.names()) == 2)
        await pool.scaled(2)


async def test_a_conflict_is_read_again_and_written_once(server: FakeServer) -> None:
    async with a_pool(server, replicas=1) as pool:
        server.faults.next(2, verb="patch", resource="deployments", subresource="scale", status=409)

        await pool.apply(3)

        assert pool.replicas() == 3


async def test_conflicts_without_end_fail_and_are_tried_again(server: FakeServer) -> None:
    async with a_pool(server, replicas=1) as pool:
        server.faults.next(None, verb="patch", resource="deployments", subresource="scale", status=409)

        with pytest.raises(ScalingFailed, match="conflict"):
            await pool.apply(3)

        server.faults.clear()
        await pool.scaled(3)


async def test_while_the_server_is_away_the_list_stays_and_the_write_comes_later(server: FakeServer) -> None:
    async with a_pool(server, replicas=2) as pool:
        listed = pool.records()
        await server.go_down()

        with pytest.raises(ScalingFailed, match="unavailable"):
            await pool.apply(4)

        assert pool.records() == listed
        assert pool.scaler.fleet().desired == 4
        await server.come_up()
        await pool.scaled(4)


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_storm_of_refusals_loses_nothing(server: FakeServer, status: int) -> None:
    async with a_pool(server, replicas=3) as pool:
        server.faults.next(6, status=status, verb="patch")
        await pool.scaled(1)
        server.faults.next(6, status=status)
        await pool.scaled(2)


async def test_a_write_whose_answer_is_lost_is_not_done_twice(server: FakeServer) -> None:
    async with a_pool(server, replicas=1) as pool:
        server.faults.next(1, verb="patch", resource="deployments", reset=True, late=True)

        with pytest.raises(ScalingFailed):
            await pool.apply(3)

        await pool.scaled(3)
        assert pool.scaler.fleet().override is None


async def test_without_the_right_to_write_it_says_denied(server: FakeServer) -> None:
    async with a_pool(server, replicas=1) as pool:
        server.access = Access([])

        with pytest.raises(ScalingFailed, match="denied"):
            await pool.apply(2)


async def test_what_a_person_sets_is_an_override_by_name(server: FakeServer) -> None:
    async with a_pool(server, replicas=2) as pool:
        item = server.store.get("deployments", "chat")
        later = "2099-01-01T00:00:00Z"
        entry = {"manager": "kubectl", "time": later, "fieldsV1": {"f:spec": {"f:replicas": {}}}}
        item["metadata"]["managedFields"] = [entry]
        item["spec"]["replicas"] = 5
        server.store.put("deployments", item)

        await pool.until(lambda: pool.scaler.fleet().override is not None)

        fleet = pool.scaler.fleet()
        assert fleet.override is not None
        assert (fleet.override.by, fleet.override.replicas, fleet.desired) == ("kubectl", 5, 5)
        await pool.scaled(3)
        await pool.until(lambda: pool.scaler.fleet().override is None)
        managers = [one["manager"] for one in server.store.get("deployments", "chat")["metadata"]["managedFields"]]
        assert managers == [FIELD_MANAGER]


async def test_an_annotation_pauses_every_write(server: FakeServer) -> None:
    async with a_pool(server, replicas=2) as pool:
        server.store.change("deployments", "chat", {"metadata": {"annotations": {PAUSED: "upgrade"}}})
        await pool.until(lambda: pool.scaler.fleet().paused is not None)

        await pool.apply(5)

        assert pool.scaler.fleet().paused == f"annotation {PAUSED}=upgrade"
        assert (pool.replicas(), pool.writes()) == (2, 0)
        server.store.change("deployments", "chat", {"metadata": {"annotations": {PAUSED: None}}})
        await pool.until(lambda: pool.scaler.fleet().paused is None)
        await pool.scaled(5)


async def test_another_autoscaler_of_the_target_pauses_the_pool_and_is_named(server: FakeServer) -> None:
    server.store.put(
        "horizontalpodautoscalers",
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "old", "namespace": "default"},
            "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "chat"}},
        },
    )
    async with a_pool(server, replicas=2) as pool:
        await pool.until(lambda: pool.scaler.fleet().paused is not None)

        await pool.apply(5)

        expected = "HorizontalPodAutoscaler old also writes replicas of Deployment default/chat"
        assert pool.scaler.fleet().paused == expected
        assert pool.replicas() == 2


async def test_pods_without_room_are_counted(server: FakeServer) -> None:
    async with a_pool(server, replicas=1) as pool:
        pool.workload.capacity = 2
        await pool.apply(4)

        await pool.until(lambda: pool.scaler.fleet().unschedulable == 2)
        assert not pool.scaler.fleet().room_elsewhere

        assert pool.scaler.fleet().pending == 2 + (2 - len(pool.names(READY)))


async def test_a_stateful_set_gives_its_highest_number(server: FakeServer) -> None:
    objects = {"statefulsets": [stateful_set(replicas=3)]}
    async with a_pool(server, targets=(target(kind=STATEFUL_SET),), objects=objects) as pool:
        pool.busy = {"chat-0": 1, "chat-1": 1, "chat-2": 9}

        await pool.apply(2)

        assert pool.names(DRAINING) == ["chat-2"]
        pool.busy = {}
        await pool.until(lambda: pool.names() == ["chat-0", "chat-1"])


async def test_of_a_group_of_pods_the_leader_is_the_replica(server: FakeServer) -> None:
    objects = {"leaderworkersets": [leader_worker_set(replicas=2, size=3)]}
    async with a_pool(server, targets=(target(kind=LEADER_WORKER_SET),), objects=objects) as pool:
        assert pool.names() == ["chat-0", "chat-1"]

        await pool.scaled(3)

        assert len(server.store.all("pods")) == 9


async def test_a_custom_kind_is_scaled_through_its_scale(server: FakeServer) -> None:
    custom = {
        **deployment(replicas=1),
        "apiVersion": "serving.example.org/v1alpha1",
        "kind": "ModelServer",
    }
    kind = Kind(name="ModelServer", group="serving.example.org", version="v1alpha1", plural="modelservers")
    async with a_pool(
        server,
        targets=(target(kind=kind),),
        objects={"modelservers": [custom]},
        like_deployments=("modelservers",),
    ) as pool:
        await pool.scaled(3)
        await pool.scaled(1)

        assert pool.replicas(resource="modelservers") == 1


async def test_a_follower_sees_and_writes_nothing_and_takes_over_a_drain(server: FakeServer) -> None:
    async with a_pool(server, replicas=3) as leader, a_pool(server, replicas=3, leads=False) as follower:
        first, *others = leader.names()
        leader.busy = {first: 1, others[0]: 5, others[1]: 5}
        await leader.apply(2)
        await leader.until(lambda: DRAINING_SINCE in annotations(server, first))
        await follower.until(lambda: follower.scaler.fleet().draining == 1)
        assert follower.scaler.fleet().desired == 2

        leader.leads, follower.leads = False, True

        await follower.until(lambda: follower.names() == sorted(others))
        assert leader.scaler.fleet().desired == 2
        assert follower.writes() == 1


async def test_with_keda_pods_are_drained_and_replicas_left_alone(server: FakeServer) -> None:
    async with a_pool(server, replicas=3, writes=Writes.MARKS) as pool:
        first, *others = pool.names()
        pool.busy = {first: 1, others[0]: 5, others[1]: 5}
        await pool.apply(2)
        await pool.until(lambda: DRAINING_SINCE in annotations(server, first))
        assert pool.scaler.fleet().draining == 1
        pool.busy = {others[0]: 5, others[1]: 5}

        await pool.until(lambda: pool.scaler.fleet().draining == 0)

        assert (pool.replicas(), pool.writes(), pool.scaler.advisory) == (3, 0, True)
        server.store.change("deployments", "chat", {"spec": {"replicas": 2}})
        await pool.until(lambda: pool.names() == sorted(others))
        assert pool.scaler.fleet().desired == 2


async def test_advice_touches_nothing_and_lists_the_pods(server: FakeServer) -> None:
    async with a_pool(server, replicas=2, writes=Writes.NOTHING) as pool:
        await pool.apply(5)
        await pool.scaler.advance(pool.look())

        assert (pool.scaler.fleet().desired, pool.replicas()) == (5, 2)
        assert len(pool.names(READY)) == 2
        assert not [call for call in server.calls if call.verb in ("patch", "update", "create", "delete")]


async def test_the_cheapest_gpu_grows_first_and_the_next_where_it_has_no_room(server: FakeServer) -> None:
    objects = {"deployments": [deployment("h100", replicas=1), deployment("l40s", replicas=0)]}
    targets = (
        target("h100", gpu="H100", cost_per_hour=4.0),
        target("l40s", gpu="L40S", ratio=2.0, cost_per_hour=1.0, maximum=4),
    )
    async with a_pool(server, targets=targets, objects=objects) as pool:
        await pool.apply(2)
        assert (pool.replicas("h100"), pool.replicas("l40s")) == (1, 2)
        await pool.until(lambda: len(pool.names(READY)) == 3)
        assert pool.scaler.fleet().ready == 2
        assert {record.gpu: record.ratio for record in pool.records()} == {"H100": 1.0, "L40S": 2.0}

        pool.workload.capacity = 4
        await pool.apply(4)
        await pool.until(lambda: pool.scaler.fleet().unschedulable > 0)
        assert pool.scaler.fleet().room_elsewhere
        await pool.apply(5)

        plan = pool.scaler.plan(5)
        assert plan is not None
        assert "L40S (l40s) (each 0.50 at 2.00 an hour" in plan
        assert pool.replicas("h100") > 1


async def test_the_gpu_of_a_pod_is_that_of_its_node(server: FakeServer) -> None:
    server.store.put("nodes", node("node-1", **{"nvidia.com/gpu.product": "NVIDIA-L40S"}))
    async with a_pool(server, targets=(target(gpu="H100"),), read_nodes=True) as pool:
        await pool.until(lambda: {record.gpu for record in pool.records()} == {"L40S"})

        assert {record.ratio for record in pool.records()} == {2.5}


MISSING: dict[str, tuple[dict[str, Any], str]] = {
    "no such Deployment": ({"deployments": [deployment("other")]}, "Deployment default/chat does not exist"),
}


@pytest.mark.parametrize(("objects", "paused"), MISSING.values(), ids=MISSING)
async def test_what_cannot_be_scaled_is_held_and_explained(
    server: FakeServer, objects: dict[str, Any], paused: str
) -> None:
    async with a_pool(server, objects=objects, known=False) as pool:
        await pool.until(lambda: pool.scaler.fleet().paused == paused)

        await pool.apply(3)

        assert pool.scaler.records() is None
        server.store.put("deployments", deployment(replicas=1))
        await pool.until(lambda: pool.scaler.known)
        await pool.scaled(2)


async def test_a_deleted_target_is_held_and_its_list_stays_unpublished(server: FakeServer) -> None:
    async with a_pool(server, replicas=1) as pool:
        server.store.remove("deployments", "chat")

        await pool.until(lambda: not pool.scaler.known)

        assert pool.scaler.fleet().paused == "Deployment default/chat does not exist"
        assert pool.scaler.records() is None


async def test_pods_that_come_back_after_a_cut_watch_are_seen(server: FakeServer) -> None:
    async with a_pool(server, replicas=2) as pool:
        began_s = time.time()
        server.streams.cut(resource="pods")
        server.compact()

        await pool.scaled(3)

        assert all(record.created_at_s <= time.time() for record in pool.records())
        assert max(record.created_at_s for record in pool.records()) >= began_s - 1


async def test_during_a_rollout_nothing_is_drained_and_nothing_lowered(server: FakeServer) -> None:
    """Which pods go when `replicas` falls is the Deployment's business then; up is possible."""
    async with a_pool(server, replicas=3) as pool:
        for name, revision in zip(pool.names(), ("old", "old", "new"), strict=True):
            server.store.change("pods", name, {"metadata": {"labels": {"pod-template-hash": revision}}})
        [held] = pool.scaler.held
        await pool.until(lambda: held.rolling)

        await pool.apply(2)
        await pool.apply(1)

        assert [call for call in server.calls if call.verb == "patch"] == []
        await pool.apply(4)
        assert pool.replicas() == 4
        for name in pool.names():
            server.store.change("pods", name, {"metadata": {"labels": {"pod-template-hash": None}}})
        await pool.scaled(1)


async def test_a_target_that_is_made_again_is_another_one(server: FakeServer) -> None:
    """A Deployment's selector cannot change; that of its successor can."""
    async with a_pool(server, replicas=2) as pool:
        server.store.remove("deployments", "chat")
        await pool.until(lambda: not pool.scaler.known)
        again = deployment("other", replicas=1)
        again["metadata"]["name"] = "chat"

        server.store.put("deployments", again)

        await pool.until(lambda: pool.scaler.known and len(pool.names(READY)) == 1)
        labels = server.store.get("pods", pool.names()[0])["metadata"]["labels"]
        assert labels["app"] == "other"
        await pool.scaled(2)


@pytest.mark.parametrize("busy", [0, 1])
async def test_of_two_that_drain_the_one_with_requests_stays(server: FakeServer, busy: int) -> None:
    """They became ready in the same second: without costs of their own the controller would take either."""
    async with a_pool(server, replicas=3) as pool:
        kept, *leaving = pool.names()
        pool.busy = {kept: 9, leaving[0]: 1, leaving[1]: 1}
        await pool.apply(1)
        await pool.until(lambda: all(DRAINING_SINCE in annotations(server, name) for name in leaving))
        pool.busy = {kept: 9, leaving[busy]: 1}

        await pool.until(lambda: len(pool.names()) == 2)

        assert pool.names() == sorted([kept, leaving[busy]])


async def test_more_replicas_start_although_a_pod_cannot_be_marked(server: FakeServer) -> None:
    async with a_pool(server, replicas=2) as pool:
        pool.busy = dict.fromkeys(pool.names(), 1)
        await pool.apply(1)
        await pool.until(lambda: "draining" in pool.states().values())
        server.faults.next(None, verb="patch", resource="pods", status=403)

        with pytest.raises(ScalingFailed, match="denied"):
            await pool.apply(4)

        assert pool.replicas() == 4
        server.faults.clear()
