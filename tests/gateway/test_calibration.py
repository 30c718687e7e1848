"""What a worker measures of its replicas, who learns from it, and where what was learned is applied."""

from dataclasses import replace

import pytest

from backlog.records import CalibrationRecord, ReplicaName, ScalarRecord
from estimator.calibrate import Drift
from gateway import pick
from gateway.calibration import MOST_KEPT, Calibration, Meter, scaled
from gateway.pick import Load
from tests.gateway.builders import ME, OTHER, RULE, chat, pool, report, view, weight
from tests.gateway.metered import PERIOD_S, Metered, calibration, period


def taught(ratio: float, periods: int = 40) -> tuple[Calibration, Metered]:
    one, replica, now_s = calibration(), Metered(), 0.0
    one.tick({"r0": replica}, 0.0)
    one.learn({"r0": replica})
    for _ in range(periods):
        now_s = period(one, replica, ratio=ratio, start_s=now_s)
    return one, replica


# Measuring


def test_busy_time_and_sequences_are_of_all_workers_and_idle_time_counts_nothing() -> None:
    meter, load = Meter(), Load(name="r0")
    for now_s, in_flight in ((0.0, 0), (5.0, 0), (5.0, 4), (7.0, 2), (8.0, 0), (9.0, 0)):
        meter.pass_time(load, now_s)
        load.in_flight = in_flight
    assert (meter.busy_s, meter.sequence_s) == (3.0, 2 * 4 + 1 * 2)


def test_what_runs_is_credited_token_by_token_and_never_twice() -> None:
    one, replica = calibration(), Metered(running=[0.5, 0.25])
    one.tick({"r0": replica}, 0.0)
    assert one.attributed_s({"r0": replica}) == {"r0": 0.75}
    # It ends: until the next look the old sum stands.
    replica.meter.settled_s, replica.running = 0.8, []
    assert one.attributed_s({"r0": replica}) == {"r0": 0.75}
    one.tick({"r0": replica}, 5.0)
    assert one.attributed_s({"r0": replica}) == {"r0": 0.8}
    assert one.attributed_s({"r1": Metered(name="r1")}) == {}


# Learning


@pytest.mark.parametrize("ratio", [0.5, 1.5])
def test_what_a_full_replica_takes_longer_is_learned_and_applied(ratio: float) -> None:
    one, replica = taught(ratio)
    assert one.scalar_of("r0").ratio == pytest.approx(ratio, rel=0.01)
    assert (one.ratio, replica.load.ratio) == (one.scalar_of("r0").ratio,) * 2
    # Alone in its pool it is the pool: weights have the ratio in them.
    assert replica.load.scale == 1.0


def test_the_work_of_all_workers_is_summed() -> None:
    one, replica = calibration(), Metered()
    theirs = 100.0
    one.hear(view(report(ME), report(OTHER, attributed_s={"r0": theirs})))
    one.tick({"r0": replica}, 0.0)
    one.learn({"r0": replica})
    for number in range(40):
        theirs += 6.0
        one.hear(view(report(ME), report(OTHER, attributed_s={"r0": theirs})))
        period(one, replica, ratio=2.5, start_s=number * PERIOD_S)
    assert one.scalar_of("r0").ratio == pytest.approx(1.0, rel=0.01)


def test_a_period_in_which_a_worker_came_went_or_began_anew_teaches_nothing() -> None:
    one, replica = calibration(), Metered()
    one.tick({"r0": replica}, 0.0)
    one.learn({"r0": replica})
    now_s = 0.0
    for reports in ([report(OTHER, attributed_s={"r0": 5.0})], [report(OTHER, attributed_s={"r0": 1.0})], []):
        one.hear(view(report(ME), *reports))
        now_s = period(one, replica, ratio=3.0, start_s=now_s)
    assert one.scalar_of("r0").periods == 0
    period(one, replica, ratio=3.0, start_s=now_s)
    assert one.scalar_of("r0").periods == 1


def test_a_replica_whose_object_is_new_begins_a_new_period() -> None:
    one, _ = taught(1.5, periods=3)
    again = Metered()
    period(one, again, ratio=0.5, start_s=1000.0)
    assert one.scalar_of("r0").periods == 3


def test_the_worker_that_has_run_longest_learns_and_alone_also_without_redis() -> None:
    one = calibration()
    assert one.leads(connected=True)
    assert one.leads(connected=False)
    young, old = replace(report(OTHER), started_at_s=9.0), replace(report(OTHER), started_at_s=0.5)
    one.hear(view(report(ME), young))
    assert (one.leads(connected=True), one.leads(connected=False)) == (True, False)
    one.hear(view(report(ME), old))
    assert not one.leads(connected=True)


def test_a_replica_far_from_its_price_drifts() -> None:
    one, _ = taught(1.8)
    assert one.drifts == {"r0": Drift.OUT_OF_BAND}
    one.apply({})
    assert one.drifts == {}
    assert taught(1.1)[0].drifts == {}


# Storing


def test_what_is_stored_is_taken_over_by_the_next_worker() -> None:
    record = taught(1.5)[0].record()
    heir, replica = calibration(), Metered()
    heir.adopt(record, {"r0": replica})
    assert heir.scalar_of("r0").ratio == replica.load.ratio == pytest.approx(1.5, rel=0.01)
    assert heir.record() == record


def test_what_was_learned_before_the_first_load_is_kept_where_there_is_more_of_it() -> None:
    record = taught(1.5, periods=10)[0].record()
    more, fewer = taught(0.5, periods=12), taught(0.5, periods=3)
    for one, replica in (more, fewer):
        one.adopt(record, {"r0": replica})
    assert (more[0].scalar_of("r0").periods, fewer[0].scalar_of("r0").periods) == (12, 10)
    more[0].adopt(record, {"r0": more[1]})
    assert more[0].scalar_of("r0").periods == 10


def _stored(**changes: float) -> ScalarRecord:
    return ScalarRecord(**{"log_ratio": 0.1, "quick_log_ratio": 0.1, "periods": 7} | changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (CalibrationRecord(price="other", replicas={}), "another price"),
        (
            CalibrationRecord(price=calibration().price, replicas={ReplicaName("r0"): _stored(log_ratio=99)}),
            "log_ratio",
        ),
        (CalibrationRecord(price=calibration().price, replicas={ReplicaName("r0"): _stored(periods=-1)}), "periods"),
    ],
    ids=["price", "number", "count"],
)
def test_a_record_that_cannot_hold_changes_nothing(record: CalibrationRecord, said: str) -> None:
    one, replica = calibration(), Metered()
    with pytest.raises(ValueError, match=said):
        one.adopt(record, {"r0": replica})
    assert (one.ratio, one.scalar_of("r0").ratio, replica.load.ratio) == (1.0, 1.0, 1.0)


def test_replicas_that_are_gone_are_forgotten_beyond_a_number() -> None:
    one, replica = calibration(), Metered()
    stored = {ReplicaName(f"old{n}"): _stored() for n in range(MOST_KEPT + 50)} | {ReplicaName("r0"): _stored()}
    one.adopt(CalibrationRecord(price=one.price, replicas=stored), {"r0": replica})
    assert len(one.scalars) == MOST_KEPT
    assert "r0" in one.scalars
    assert "old0" not in one.scalars


# Applying


def test_a_newcomer_is_taken_for_one_of_its_pool() -> None:
    one, replica = taught(1.5)
    new = Metered(name="r1", load=Load(name="r1"))
    one.apply({"r0": replica, "r1": new})
    assert new.load.ratio == pytest.approx(1.5, rel=0.01)
    assert new.load.scale == pytest.approx(1.0)


def test_a_slow_replica_of_a_mixed_pool_counts_more_and_a_fast_one_less() -> None:
    one, replica = calibration(), Metered()
    fast = Metered(name="r1", load=Load(name="r1"))
    stored = {ReplicaName("r0"): _stored(log_ratio=0.4), ReplicaName("r1"): _stored(log_ratio=-0.4)}
    one.adopt(CalibrationRecord(price=one.price, replicas=stored), {"r0": replica, "r1": fast})
    assert one.ratio == pytest.approx(1.0)
    assert pick.score(replica.load, weight(), RULE, 0.0).score_s > pick.score(fast.load, weight(), RULE, 0.0).score_s


def test_every_part_of_the_score_of_a_replica_is_in_its_own_seconds() -> None:
    same = {"in_flight": 3, "prefill_s": 0.1, "prefill_tokens": 900, "kv_tokens": 9000, "remaining_gpu_s": 1.0}
    plain, slow = Load(name="r0", **same), Load(name="r0", **same, ratio=2.0, scale=2.0)  # type: ignore[arg-type]
    one, other = pick.score(plain, weight(), RULE, 0.0), pick.score(slow, weight(), RULE, 0.0)
    assert other.score_s == pytest.approx(2.0 * one.score_s)
    assert other[2:5] == pytest.approx([2.0 * part for part in one[2:5]])


def test_a_pool_that_is_slower_than_its_price_weighs_by_what_it_takes() -> None:
    one = pool()
    plain = weight(0.1, 0.3)
    assert scaled(plain, 1.0) == plain
    slow = scaled(plain, 1.5)
    assert (slow.prefill_s, slow.decode_s, slow.gpu_s) == pytest.approx((0.15, 0.45, 0.6))
    assert slow[3:8] == plain[3:8]
    one.fleet.calibration.ratio = 2.0
    before = pool().weigher.weigh(chat(), ("a",))
    assert one.weigher.weigh(chat(), ("a",)).gpu_s == pytest.approx(2.0 * before.gpu_s)


def test_a_report_carries_what_this_worker_attributed() -> None:
    one = pool(replicas=1)
    one.replicas["r0"].meter.settled_s = 3.5
    one.tick(0.0)
    assert one.report(1.0, epoch_s=0.0).attributed_s == {"r0": 3.5}
