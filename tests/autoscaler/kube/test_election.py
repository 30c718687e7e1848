"""Elections over real HTTP: races, storms, answers that come late, and a lease given back."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from autoscaler.kube.election import Election, lease_from_object
from autoscaler.kube.lease import LeaseTerms
from tests.autoscaler.replicas import until
from tests.kube.server import FakeServer
from tests.kube.target import parse_path

PATH = "/apis/coordination.k8s.io/v1/namespaces/ml/leases/weighbridge-autoscaler"


def election(server: FakeServer, identity: str, *, duration_s: float = 1.0) -> Election:
    terms = LeaseTerms(
        identity=identity, duration_s=duration_s, renew_deadline_s=0.6 * duration_s, retry_s=0.1 * duration_s
    )
    return Election(
        server.api(), terms, namespace="ml", name="weighbridge-autoscaler", clock=time.monotonic, wall=time.time
    )


@asynccontextmanager
async def contending(contender: Election) -> AsyncIterator[Callable[[], Any]]:
    """Runs it; yields what stops it in order. Left without that, it ends as a process that was killed."""
    stop_event = asyncio.Event()
    task = asyncio.create_task(contender.run(stop_event), name=contender.identity)

    async def stop() -> None:
        stop_event.set()
        await task

    try:
        yield stop
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def lease_of(server: FakeServer) -> dict[str, Any]:
    return server.store.read(parse_path(PATH))


async def test_of_two_that_race_one_leads_and_the_other_takes_over_when_it_dies(server: FakeServer) -> None:
    contenders = [election(server, "a"), election(server, "b")]
    async with AsyncExitStack() as a, AsyncExitStack() as b:
        stacks = [a, b]
        for stack, contender in zip(stacks, contenders, strict=True):
            await stack.enter_async_context(contending(contender))
        await until(lambda: contenders[0].holder == contenders[1].holder is not None)
        leading = [contender.leads() for contender in contenders]
        assert sorted(leading) == [False, True]
        await stacks[leading.index(True)].aclose()
        assert not contenders[leading.index(True)].leads(), "one that ends without giving back stops at once"
        await until(contenders[leading.index(False)].leads)
    assert lease_of(server)["spec"]["leaseTransitions"] == 1


async def test_a_lease_that_is_given_back_names_nobody_and_is_taken_soon(server: FakeServer) -> None:
    a, b = election(server, "a", duration_s=20.0), election(server, "b", duration_s=20.0)
    async with contending(a) as stop:
        await until(a.leads)
        with capture_logs() as logs:
            await stop()
        assert not a.leads()
        assert lease_of(server)["spec"]["holderIdentity"] == ""
        assert "lead given back" in [entry["event"] for entry in logs]
        async with contending(b):
            await until(b.leads)
    assert (a.losses, b.gains) == (0, 1)


@pytest.mark.parametrize(
    "fault", [{"status": 429, "retry_after_s": 1}, {"status": 500}, {"hang": True}, {"reset": True}]
)
async def test_a_leader_that_cannot_renew_stops_says_so_once_and_leads_again(
    server: FakeServer, fault: dict[str, Any]
) -> None:
    a = election(server, "a")
    with capture_logs() as logs:
        async with contending(a):
            await until(a.leads)
            server.faults.next(None, resource="leases", **fault)
            await until(lambda: not a.leads())
            server.faults.clear()
            await until(a.leads)
            await until(lambda: a.gains == 2)
    events = [entry["event"] for entry in logs]
    assert events.count("leader lease unavailable") == 1
    assert events.count("lead lost") == 1
    assert events.count("leading") == 2


async def test_a_server_that_is_gone_for_a_moment_costs_no_lead(server: FakeServer) -> None:
    a = election(server, "a", duration_s=20.0)
    async with contending(a):
        await until(a.leads)
        renewed = lease_of(server)["spec"]["renewTime"]
        await server.go_down()
        await server.come_up()
        await until(lambda: lease_of(server)["spec"]["renewTime"] != renewed)
        assert a.leads()
    assert (a.gains, a.losses) == (1, 0)


async def test_a_renewal_that_was_done_and_not_answered_is_taken_up_again(server: FakeServer) -> None:
    a = election(server, "a", duration_s=2.0)
    async with contending(a):
        await until(a.leads)
        server.faults.next(1, verb="update", resource="leases", reset=True, late=True)
        updates = len(server.made("update", "leases"))
        await until(lambda: len(server.made("update", "leases")) >= updates + 4)
        assert a.leads()
    assert (a.gains, a.losses, a.transitions) == (1, 0, 0)


async def test_labels_and_fields_that_others_put_on_the_lease_are_kept(server: FakeServer) -> None:
    server.store.create(
        parse_path(PATH.rpartition("/")[0]),
        {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": "weighbridge-autoscaler", "namespace": "ml", "labels": {"app": "chart"}},
            "spec": {"strategy": "kept"},
        },
        manager="helm",
    )
    a = election(server, "a")
    async with contending(a):
        await until(a.leads)
    found = lease_of(server)
    assert (found["metadata"]["labels"], found["spec"]["strategy"]) == ({"app": "chart"}, "kept")
    assert found["spec"]["holderIdentity"] == "a"
    assert found["spec"]["acquireTime"].endswith("Z")


@pytest.mark.parametrize(
    "found",
    [{}, {"metadata": {"resourceVersion": "1"}, "spec": {"leaseTransitions": "many"}}, {"metadata": [], "spec": {}}],
    ids=["nothing", "no number", "no metadata"],
)
def test_what_is_no_lease_is_refused(found: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        lease_from_object(found)
