"""A replica stops only when every worker has shown, knowing of the drain, that nothing runs there."""

from autoscaler.drain import Drain, advance, begin, finish_reason
from backlog.records import PoolView, ReplicaName, ReplicaState, WorkerReport
from tests.autoscaler.builders import START_S, record, report, running, share, view

NAME = ReplicaName("r1")
LISTED = (record("r1", ReplicaState.DRAINING),)
IDLE = report()
BUSY = report(running=running(r1=share(in_flight=2)))


def seen(at_s: float, *reports: WorkerReport, listed: bool = True, age_s: float = 0.0) -> PoolView:
    return view(*reports, at_s=START_S + at_s, age_s=age_s, replicas=LISTED if listed else (record("r1"),))


def follow(start: PoolView, *views: PoolView | None) -> tuple[Drain, float]:
    drain, now_s = begin(start, START_S), START_S
    for one in views:
        now_s = now_s + 1 if one is None else one.read_at_s
        drain = advance(drain, NAME, one, now_s)
    return drain, now_s


def done(start: PoolView, *views: PoolView | None, deadline_s: float = 120.0) -> bool:
    drain, now_s = follow(start, *views)
    return finish_reason(drain, deadline_s=deadline_s, now_s=now_s) is not None


def test_two_idle_reports_after_the_list_was_seen_are_enough() -> None:
    assert done(seen(0, IDLE, listed=False), seen(1, IDLE), seen(2, IDLE), seen(3, IDLE))


def test_one_report_is_not_enough_because_it_was_written_before_the_worker_knew() -> None:
    assert not done(seen(0, IDLE, listed=False), seen(1, IDLE), seen(2, IDLE))


def test_the_same_report_read_twice_counts_once() -> None:
    again = seen(2.5, IDLE, age_s=0.5)
    assert not done(seen(0, IDLE, listed=False), seen(1, IDLE), seen(2, IDLE), again, seen(2.6, IDLE, age_s=0.6))


def test_reports_do_not_count_before_redis_shows_the_drain() -> None:
    unlisted = [seen(at_s, IDLE, listed=False) for at_s in range(1, 9)]
    assert not done(seen(0, IDLE, listed=False), *unlisted)


def test_requests_in_flight_keep_it() -> None:
    assert not done(seen(0, BUSY, listed=False), *(seen(at_s, BUSY) for at_s in range(1, 20)))


def test_every_worker_must_be_idle() -> None:
    other = report("w2", running=running(r1=share()))
    assert not done(seen(0, IDLE, other), *(seen(at_s, IDLE, other) for at_s in range(1, 20)))
    assert done(seen(0, IDLE, other), seen(1, IDLE, other), *(seen(at_s, IDLE, report("w2")) for at_s in range(2, 5)))


def test_work_on_other_replicas_does_not_matter() -> None:
    elsewhere = report(running=running(r2=share()))
    assert done(seen(0, elsewhere), *(seen(at_s, elsewhere) for at_s in range(1, 4)))


def test_an_absent_worker_is_not_an_idle_one() -> None:
    other = report("w2")
    assert not done(seen(0, BUSY, other), *(seen(at_s, other) for at_s in range(1, 9)))


def test_a_worker_that_stays_absent_has_died() -> None:
    other = report("w2")
    assert done(seen(0, BUSY, other), *(seen(at_s, other) for at_s in range(1, 13)))


def test_absence_is_not_counted_across_an_outage() -> None:
    other = report("w2")
    outage = [None] * 30
    assert not done(seen(0, BUSY, other), seen(1, other), seen(2, other), *outage, seen(33, other), seen(34, other))


def test_no_worker_at_all_is_waited_for_a_while() -> None:
    assert not done(seen(0), *(seen(at_s) for at_s in range(1, 9)))
    assert done(seen(0), *(seen(at_s) for at_s in range(1, 12)))


def test_the_deadline_ends_it_with_requests_running() -> None:
    drain, now_s = follow(seen(0, BUSY), seen(1, BUSY), seen(30, BUSY))
    assert finish_reason(drain, deadline_s=30.0, now_s=now_s) == "drain deadline of 30 s with 2 requests running"


def test_a_clock_that_is_set_back_counts_from_there() -> None:
    drain = advance(begin(seen(0, BUSY), START_S), NAME, seen(1), START_S + 1)
    earlier_s = START_S - 3600
    drain = advance(drain, NAME, seen(2), earlier_s)

    assert finish_reason(drain, deadline_s=120.0, now_s=earlier_s + 121) is not None
    assert advance(drain, NAME, seen(12), earlier_s + 11).witnesses == {}
