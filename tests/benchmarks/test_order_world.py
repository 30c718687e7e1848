import random
from dataclasses import replace

import pytest

from backlog.order import Order
from benchmarks.order.setup import Hardware, Job, PoolSetup, TenantRules, hardware
from benchmarks.order.world import Served, run

HARDWARE = hardware()


def jobs(count: int, *, tenants: str = "ab", gap_s: float = 0.02, input_tokens: int = 6000, seed: int = 0) -> list[Job]:
    rng = random.Random(seed)
    return [
        Job(
            id=f"{index:03}",
            tenant=tenants[index % len(tenants)],
            at_s=index * gap_s,
            input_tokens=rng.randint(1, input_tokens),
            output_tokens=rng.randint(1, 60),
        )
        for index in range(count)
    ]


def pool(order: Order = Order.FAIR, *, replicas: int = 2, **tenants: TenantRules) -> PoolSetup:
    return PoolSetup(hardware=HARDWARE, replicas=replicas, order=order, tenants=tenants)


def seen(served: list[Served]) -> list[tuple[str, float | None, float | None, float | None]]:
    return [(one.job.id, one.sent_at_s, one.first_token_at_s, one.finished_at_s) for one in served]


def starved_of_kv() -> Hardware:
    engine = replace(HARDWARE.engine, kv_tokens=16_000, max_context_tokens=16_000)
    return replace(HARDWARE, engine=engine)


@pytest.mark.parametrize("order", list(Order))
def test_every_request_is_served_once_and_in_sequence(order: Order) -> None:
    served = run(pool(order, b=TenantRules(weight=3.0, priority=5)), jobs(120))
    assert [one.job.id for one in served] == [f"{index:03}" for index in range(120)]
    for one in served:
        assert one.sent_at_s is not None
        assert one.first_token_at_s is not None
        assert one.finished_at_s is not None
        assert one.job.at_s <= one.sent_at_s < one.first_token_at_s <= one.finished_at_s


def test_requests_whose_kv_does_not_fit_together_are_all_served() -> None:
    served = run(replace(pool(), hardware=starved_of_kv()), jobs(40, input_tokens=12_000))
    assert all(one.finished_at_s is not None for one in served)


def test_equal_input_gives_equal_times() -> None:
    assert seen(run(pool(), jobs(100))) == seen(run(pool(), jobs(100)))


@pytest.mark.parametrize("price_ratio", [0.1, 1.0, 10.0])
def test_corrections_charge_what_was_used(price_ratio: float) -> None:
    served = run(pool(a=TenantRules(price_ratio=price_ratio)), jobs(60))
    for one in served:
        assert one.charged_gpu_s(0.0, 1e9) == pytest.approx(one.used_gpu_s)
        assert one.received_gpu_s(0.0, 1e9) == pytest.approx(one.used_gpu_s)


def test_a_window_and_what_is_outside_it_add_up_to_all_that_was_received() -> None:
    for one in run(pool(), jobs(60)):
        parts = one.received_gpu_s(0.0, 0.7) + one.received_gpu_s(0.7, 1.4) + one.received_gpu_s(1.4, 1e9)
        assert parts == pytest.approx(one.used_gpu_s)


def test_a_run_that_is_ended_leaves_the_rest_unserved() -> None:
    served = run(pool(), jobs(100), until_s=1.0)
    assert any(one.finished_at_s is not None for one in served)
    assert all(one.sent_at_s is None for one in served if one.job.at_s > 1.0)
    for one in served:
        assert one.sent_at_s is not None or (one.wait_s, one.ttft_s, one.tpot_s) == (None, None, None)


def test_a_run_ends_when_the_tenants_that_matter_are_served() -> None:
    served = run(pool(Order.FAIR, a=TenantRules(priority=7)), jobs(200), only=("a",))
    assert all(one.finished_at_s is not None for one in served if one.job.tenant == "a")
    assert any(one.finished_at_s is None for one in served if one.job.tenant == "b")


def test_a_pace_bounds_the_prefill_that_a_tenant_starts() -> None:
    served = run(pool(a=TenantRules(prefill_pace=0.25)), jobs(100, gap_s=0.001))
    paced = [one for one in served if one.job.tenant == "a"]
    for until_s in (1.0, 4.0, 8.0):
        started = [one for one in paced if one.sent_at_s is not None and one.sent_at_s <= until_s]
        longest_s = max(one.used_prefill_s for one in started)
        assert sum(one.used_prefill_s for one in started) <= 0.25 * (1 + until_s) + longest_s + 1e-6


def test_known_lengths_are_priced_at_what_is_used() -> None:
    for one in run(replace(pool(), known_lengths=True), jobs(30)):
        assert one.priced_gpu_s == pytest.approx(one.used_gpu_s)


def test_overdue_tickets_pass_other_tenants_only_when_they_go_first_of_all() -> None:
    flood = [Job(id=f"f{index:03}", tenant="f", at_s=0.0, input_tokens=9000, output_tokens=2) for index in range(60)]
    late = [Job(id=f"n{index}", tenant="n", at_s=4.0, input_tokens=500, output_tokens=2) for index in range(5)]
    waits = {}
    for first in (False, True):
        setup = replace(pool(replicas=1), max_wait_s=1.0, overdue_first=first)
        served = run(setup, flood + late)
        assert all(one.finished_at_s is not None for one in served)
        waits[first] = max(one.wait_s or 0.0 for one in served if one.job.tenant == "n")
    assert waits[False] < 5.0 < waits[True]
