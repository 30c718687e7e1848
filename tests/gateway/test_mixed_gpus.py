"""A pool whose replicas have different GPUs: who gets how much work, what it weighs, and what is learned."""

from collections import deque
from dataclasses import replace
from math import log
from random import Random

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from backlog.records import CalibrationRecord, ReplicaName, ReplicaRecord, ScalarRecord
from estimator.calibrate import Scalar, newcomer, pool_ratio
from gateway import pick
from gateway.calibration import Calibration
from gateway.fleet import Fleet
from gateway.pick import Load
from tests.gateway.builders import ME, OTHER, RULE, chat, pool, pool_settings, record, report, share, view, weight
from tests.gateway.metered import Metered, calibration, period

scalars = st.one_of(
    st.none(),
    st.builds(Scalar, log_ratio=st.floats(-1.3, 1.3), quick_log_ratio=st.just(0.0), periods=st.integers(1, 50)),
)


def learned(shown: list[Scalar | None]) -> tuple[Calibration, dict[str, Metered]]:
    """A pool of `r0`, `r1`, ... that have shown this; `None` are newcomers."""
    one = calibration()
    one.scalars = {f"r{n}": scalar for n, scalar in enumerate(shown) if scalar is not None}
    return one, {f"r{n}": Metered(name=f"r{n}", load=Load(name=f"r{n}")) for n in range(len(shown))}


def listed(*ratios: float) -> tuple[ReplicaRecord, ...]:
    return tuple(
        replace(record(f"r{n}", port=9000 + n), ratio=ratio, gpu=f"gpu-{ratio:g}") for n, ratio in enumerate(ratios)
    )


def fleet(*ratios: float) -> Fleet:
    one = Fleet(pool_settings(), worker=ME, price=pool_settings().price())
    one.hear(view(replicas=listed(*ratios)), 0.0, mine=frozenset())
    return one


# Weights and scores


@given(st.lists(scalars, min_size=1, max_size=6))
def test_a_pool_of_one_gpu_is_scaled_by_what_was_learned_and_nothing_else(shown: list[Scalar | None]) -> None:
    one, replicas = learned(shown)
    one.apply(replicas)
    ratio = pool_ratio(one.scalars.values())
    assert one.ratio == ratio
    for name, replica in replicas.items():
        own = one.scalars.get(name, newcomer(one.scalars.values())).ratio
        assert (replica.load.ratio, replica.load.scale) == (own, own / ratio)


@given(st.lists(scalars, min_size=1, max_size=6), st.floats(0.2, 8.0))
def test_equal_gpus_pick_as_if_they_were_the_pools_own(shown: list[Scalar | None], ratio: float) -> None:
    one, replicas = learned(shown)
    one.apply(replicas)
    plain, scales = one.ratio, [replica.load.scale for replica in replicas.values()]
    for replica in replicas.values():
        replica.gpu_ratio = ratio
    one.apply(replicas)
    assert [replica.load.scale for replica in replicas.values()] == scales
    assert one.ratio == plain * ratio


@given(st.lists(st.tuples(scalars, st.floats(0.2, 8.0)), min_size=1, max_size=6))
def test_a_replica_is_as_slow_as_its_gpu_times_what_it_has_shown(given_: list[tuple[Scalar | None, float]]) -> None:
    one, replicas = learned([scalar for scalar, _ in given_])
    for replica, (_, ratio) in zip(replicas.values(), given_, strict=True):
        replica.gpu_ratio = ratio
    one.apply(replicas)
    for name, replica in replicas.items():
        assert replica.load.ratio == pytest.approx(replica.gpu_ratio * one.scalar_of(name).ratio)
        assert replica.load.scale * one.ratio == pytest.approx(replica.load.ratio)


def test_a_newcomer_starts_from_its_gpu_times_what_the_pool_has_learned() -> None:
    one = fleet(1.0)
    stored = ScalarRecord(log_ratio=log(1.2), quick_log_ratio=log(1.2), periods=40)
    calibrated = CalibrationRecord(price=one.calibration.price, replicas={ReplicaName("r0"): stored})
    one.calibration.adopt(calibrated, one.replicas)
    one.hear(view(replicas=listed(1.0, 3.0)), 1.0, mine=frozenset())
    assert one.loads["r1"].ratio == pytest.approx(3.6)
    assert one.loads["r0"].ratio == pytest.approx(1.2)


@pytest.mark.parametrize("ratios", [(2.0,), (2.0, 2.0)], ids=["one", "two"])
def test_a_pool_that_runs_on_gpus_half_as_fast_weighs_double(ratios: tuple[float, ...]) -> None:
    plain, slow = pool(), pool()
    plain.fleet.hear(view(replicas=listed(1.0)), 0.0, mine=frozenset())
    slow.fleet.hear(view(replicas=listed(*ratios)), 0.0, mine=frozenset())
    assert slow.weigher.weigh(chat(), ("a",)).gpu_s == 2.0 * plain.weigher.weigh(chat(), ("a",)).gpu_s


def test_offered_load_is_in_seconds_of_the_pools_own_gpu_whatever_runs() -> None:
    """Replicas are counted in them; with the mean of the GPUs in it slow ones would be ordered twice over."""
    arrived_s = []
    for ratios in ((1.0,), (2.0,), (1.0, 3.0)):
        one = pool()
        one.fleet.hear(view(replicas=listed(*ratios)), 0.0, mine=frozenset())
        one.arrive(one.weigher.weigh(chat(), ("a",)))
        arrived_s.append(one.report(0.0, epoch_s=0.0).arrived_gpu_s)
    assert arrived_s == pytest.approx([arrived_s[0]] * 3)


def share_under_load(ratios: dict[str, float], *, load_ratio: float = 1.1) -> tuple[dict[str, float], float, float]:
    """Prefills of equal price arrive at random at replicas that do them one after the other, each at its own speed.
    There are `load_ratio` times as many as they can do.

    Returns the part of the work that each got, the sum of the weights, and the seconds that replicas were busy.
    """
    one, replicas = calibration(), {name: Metered(name=name, load=Load(name=name)) for name in ratios}
    for name, replica in replicas.items():
        replica.gpu_ratio = ratios[name]
    one.apply(replicas)
    rng, price_s, now_s = Random(1), 0.05, 0.0
    sent = weight(price_s * one.ratio, 0.0)
    pace = load_ratio * sum(1.0 / ratio for ratio in ratios.values()) / price_s
    ends: dict[str, deque[float]] = {name: deque() for name in ratios}
    free_at_s, done, busy_s, waiting = dict.fromkeys(ratios, 0.0), dict.fromkeys(ratios, 0), 0.0, 0
    arrivals = 3000
    next_at_s = rng.expovariate(pace)
    while arrivals or waiting:
        events = [line[0] for line in ends.values() if line]
        now_s = min([*events, *([next_at_s] if arrivals else [])])
        for name, line in ends.items():
            load = replicas[name].load
            while line and line[0] <= now_s:
                line.popleft()
                load.in_flight, load.prefill_s = load.in_flight - 1, load.prefill_s - sent.prefill_s
                load.kv_tokens, load.progressed_at_s = load.kv_tokens - sent.kv_tokens, now_s
        if arrivals and next_at_s <= now_s:
            arrivals, waiting, next_at_s = arrivals - 1, waiting + 1, now_s + rng.expovariate(pace)
        while waiting:
            chosen = pick.pick([replica.load for replica in replicas.values()], sent, RULE, now_s, salt=arrivals)
            if chosen is None:
                break
            name, load = chosen.replica, replicas[chosen.replica].load
            if load.in_flight == 0:
                load.progressed_at_s = now_s
            load.in_flight, load.prefill_s = load.in_flight + 1, load.prefill_s + sent.prefill_s
            load.kv_tokens += sent.kv_tokens
            free_at_s[name] = max(free_at_s[name], now_s) + price_s * ratios[name]
            ends[name].append(free_at_s[name])
            done[name], waiting, busy_s = done[name] + 1, waiting - 1, busy_s + price_s * ratios[name]
    total = sum(done.values())
    return {name: count / total for name, count in done.items()}, total * sent.gpu_s, busy_s


@pytest.mark.parametrize(
    "ratios",
    [
        pytest.param({"fast": 1.0, "slow": 2.0}, id="half as fast"),
        pytest.param({"fast": 1.0, "slow": 3.0}, id="a third as fast"),
        pytest.param({"a": 1.0, "b": 1.0, "slow": 2.0}, id="two and one"),
        pytest.param({"a": 1.0, "b": 1.0}, id="equal"),
    ],
)
def test_under_load_work_goes_to_replicas_in_proportion_to_their_speed(ratios: dict[str, float]) -> None:
    shares, weighed_s, busy_s = share_under_load(ratios)
    speed = sum(1.0 / ratio for ratio in ratios.values())
    assert shares == pytest.approx({name: 1.0 / ratio / speed for name, ratio in ratios.items()}, rel=0.1)
    # What was weighed, and so billed, is the time that replicas took.
    assert weighed_s == pytest.approx(busy_s, rel=0.05)


# Learning


@pytest.mark.parametrize(("shown", "expected"), [(2.0, 1.0), (3.0, 1.5)], ids=["as its GPU", "slower than its GPU"])
def test_what_is_learned_is_relative_to_the_gpu(shown: float, expected: float) -> None:
    one, replica = calibration(), Metered(gpu_ratio=2.0)
    one.tick({"r0": replica}, 0.0)
    one.learn({"r0": replica})
    for number in range(40):
        period(one, replica, ratio=shown, start_s=number * 10.0)
    assert one.scalar_of("r0").ratio == pytest.approx(expected, rel=0.01)
    assert replica.load.ratio == one.ratio == pytest.approx(shown, rel=0.01)


# The list


def test_a_ratio_that_becomes_known_is_applied_and_the_ledger_stays() -> None:
    one = fleet(1.0, 1.0)
    one.hear(view(report(OTHER, running={"r1": share(in_flight=3)})), 1.0, mine=frozenset())
    before = one.replicas["r1"]
    one.hear(view(report(OTHER, running={"r1": share(in_flight=3)}), replicas=listed(1.0, 2.0)), 2.0, mine=frozenset())
    assert one.replicas["r1"] is before
    assert (before.gpu, before.load.in_flight, before.load.ratio) == ("gpu-2", 3, 2.0)
    assert one.loads["r0"].scale < 1.0 < one.loads["r1"].scale


def test_when_the_only_other_gpu_goes_the_pool_is_of_one_again() -> None:
    one = fleet(1.0, 2.0)
    assert one.calibration.ratio == pytest.approx(4 / 3)
    one.hear(view(replicas=listed(1.0)), 1.0, mine=frozenset())
    assert (one.calibration.ratio, one.loads["r0"].scale) == (1.0, 1.0)


@pytest.mark.parametrize("ratio", [0.0, -1.0])
def test_a_ratio_that_cannot_be_leaves_a_replica_out_and_changes_none_that_is_known(ratio: float) -> None:
    one = fleet(1.0)
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            one.hear(view(replicas=listed(ratio, ratio)), 1.0, mine=frozenset())
    assert {name: replica.gpu_ratio for name, replica in one.replicas.items()} == {"r0": 1.0}
    assert [log["event"] for log in logs] == ["replica record is unusable"]
    one.hear(view(replicas=listed(1.0, 2.0)), 2.0, mine=frozenset())
    assert one.replicas["r1"].gpu_ratio == 2.0
