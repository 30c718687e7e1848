"""What requests are told about their wait, from what is known of the queue and of the replicas."""

from dataclasses import replace

import pytest

from backlog.order import Order
from backlog.records import QueueView, ReplicaState
from gateway.outlook import NOTHING_WAITS, Outlook
from gateway.stats import PoolStats
from gateway.wait import WaitEstimate
from tests.gateway.builders import line, record, tenant

BLUE = tenant("blue")


def outlook(*lines, order: Order = Order.FAIR, gpus: int = 1, weights=None) -> Outlook:  # type: ignore[no-untyped-def]
    one = Outlook(order=order, gpus=gpus, weights=weights or {})
    one.queue = QueueView(lines=lines)
    return one


def wait_s(one: Outlook, payer=BLUE, priority: int = 3, **changes) -> float | None:  # type: ignore[no-untyped-def]
    values = {"until_room_gpu_s": 0.0, "unseen_gpu_s": 0.0, "ready": 1, "cold_start_s": 60.0} | changes
    told = one.estimate(payer, priority, **values)
    return None if told is None else told.wait_s


def test_nothing_ahead_is_no_wait_and_no_replica_is_an_unknown_one() -> None:
    assert wait_s(outlook()) == 0.0
    assert wait_s(outlook(), ready=0) is None


def test_a_request_waits_until_a_replica_has_room_though_nothing_waits() -> None:
    assert wait_s(outlook(gpus=2), until_room_gpu_s=6.0, ready=5) == 3.0
    assert wait_s(outlook(line(4, 12.0)), None, until_room_gpu_s=6.0) == 12.0, "it comes free while they are drained"
    assert wait_s(outlook(line(4, 12.0)), None, until_room_gpu_s=None) is None, "no ready replica can be used"


@pytest.mark.parametrize(("until_room_gpu_s", "expected_s"), [(6.0, 6.0), (60.0, 40.0), (None, 40.0)])
def test_a_replica_on_its_way_may_be_the_first_with_room(until_room_gpu_s: float | None, expected_s: float) -> None:
    one = outlook()
    one.starting, one.read_at_s = (record("r1", ReplicaState.STARTING),), 25.0
    assert wait_s(one, until_room_gpu_s=until_room_gpu_s) == expected_s


@pytest.mark.parametrize(("ready", "gpus", "expected_s"), [(1, 1, 12.0), (3, 1, 4.0), (3, 2, 2.0)])
def test_the_work_ahead_is_drained_by_all_gpus(ready: int, gpus: int, expected_s: float) -> None:
    assert wait_s(outlook(line(4, 12.0), gpus=gpus), None, ready=ready) == expected_s


def test_what_no_view_shows_yet_is_ahead_as_well() -> None:
    assert wait_s(outlook(line(4, 12.0)), None, unseen_gpu_s=3.0) == 15.0


def test_without_a_tenant_everything_is_ahead_and_with_one_what_the_order_takes_first() -> None:
    one = outlook(line(2, 8.0, tenant="red"), line(2, 2.0, tenant="blue"), line(1, 1.0, priority=5))
    assert wait_s(one, None) == 11.0
    assert wait_s(one, BLUE, 6) == 0.0
    assert wait_s(one, BLUE, 4) == 1.0
    told_s = wait_s(one, BLUE, 3)
    assert told_s is not None
    assert 3.0 <= told_s < 11.0


def test_a_heavier_tenant_waits_less_and_heavier_rivals_make_it_wait_more() -> None:
    lines = line(20, 20.0, tenant="red"), line(4, 4.0, tenant="blue")
    usual_s = wait_s(outlook(*lines))
    heavy_s = wait_s(outlook(*lines), replace(BLUE, weight=4.0))
    light_s = wait_s(outlook(*lines, weights={"red": 3.0}))
    assert usual_s is not None
    assert heavy_s is not None
    assert light_s is not None
    assert heavy_s < usual_s < light_s


def test_first_come_first_served_all_of_the_band_is_ahead() -> None:
    assert wait_s(outlook(line(2, 8.0), order=Order.FCFS)) == 8.0


def test_a_replica_on_its_way_counts_once_the_time_is_known() -> None:
    one = outlook(line(4, 12.0))
    one.starting = (record("r1", ReplicaState.STARTING),)
    assert wait_s(one, ready=0) is None
    # It was made at 5, and a minute is expected.
    one.read_at_s = 25.0
    assert wait_s(one, None, ready=0) == 40.0 + 12.0
    assert wait_s(one, None, ready=0, cold_start_s=90.0) == 70.0 + 12.0


def test_waits_that_are_longer_than_told_lengthen_the_next_estimates() -> None:
    one, stats = outlook(line(4, 12.0)), PoolStats()
    before_s = wait_s(one, None)
    for _ in range(20):
        told = one.estimate(None, 0, until_room_gpu_s=0.0, unseen_gpu_s=0.0, ready=1, cold_start_s=60.0)
        one.learn(stats, told, 24.0, dispatched=True)
    after_s = wait_s(one, None)
    assert before_s is not None
    assert after_s is not None
    assert 1.5 * before_s < after_s <= 24.1
    assert sum(stats.wait_error_ratio.counts) == 20


def test_a_request_that_gave_up_early_teaches_nothing() -> None:
    one, stats = outlook(line(4, 12.0)), PoolStats()
    one.learn(stats, WaitEstimate(12.0, 1.0, steady=True), 1.0, dispatched=False)
    assert (wait_s(one, None), sum(stats.wait_error_ratio.counts)) == (12.0, 0)


def test_while_redis_is_away_no_queue_is_known() -> None:
    one = outlook(line(4, 12.0))
    one.queue = NOTHING_WAITS
    assert wait_s(one) == 0.0
