"""What one worker keeps of a pool's hosted model: reservations, charges and what is in flight always add up."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backlog.account import NO_CHARGE, Charge, Spent, Standing
from estimator.price import Weight
from gateway.limits import Limiter
from gateway.openai import ParsedRequest
from gateway.overflow import LEASE_S, RECONSIDER_S, Overflow, account_of, caps_of
from gateway.pool import Pool
from gateway.settings import TenantSettings
from gateway.spill import Spill, SpillSettings, Stay, TokenPrice, Why, WhyNot
from tests.gateway.builders import POOL, chat, pool, pool_settings, tenant, view, weight

PAYER = tenant("blue", spill=True, money_per_day=50.0)
PRICE = TokenPrice(input_per_mtok=1000.0, output_per_mtok=1000.0)
SETTINGS = SpillSettings(model="azure/small", price=PRICE, money_per_day=100.0)
RESERVED = 1.1
"""Of the usual weight: 700 tokens in and 400 out."""
NOTHING = Spent(gpu_s=0.0, money=0.0, left_s=3600.0)


@dataclass(eq=False)
class Asker:
    """What `Scheduled` is to an overflow, which remembers when it was told to spill."""

    weight: Weight = field(default_factory=weight)
    payer: TenantSettings = PAYER
    priority: int = 3
    parsed: ParsedRequest = field(default_factory=chat)
    request_id: bytes = b"x"
    arrived_at_s: float = 0.0
    spill_tries: int = 0
    charge: Charge = NO_CHARGE
    failed_on: frozenset[str] = frozenset()
    salt: int = 1
    seat: Any = None
    spills: bool = False
    asked_at_s: list[float] = field(default_factory=list)

    def spill_over(self, now_s: float) -> bool:
        self.asked_at_s.append(now_s)
        return self.spills


def overflow(
    one: Pool | None = None, settings: SpillSettings = SETTINGS, *, workers: int = 1
) -> tuple[Overflow, Limiter]:
    """With what was spent today known to be nothing."""
    limiter = Limiter([PAYER], caps={account_of(POOL): settings.money_per_day})
    standing = Standing(bucket_gpu_s=None, day=NOTHING, month=NOTHING)
    limiter.hear({account_of(POOL): standing, PAYER.name: standing}, 0.0)
    path = Path("/nowhere")
    one = one or pool()
    one.hear(view(replicas=()), 0.0)
    return Overflow(settings, one, socket=path, limiter=limiter, workers=workers, connect_s=1.0), limiter


def test_the_cap_of_each_pool_that_spills_is_under_a_name_that_no_tenant_can_have() -> None:
    pools = (pool_settings(), pool_settings(name="other", spill=SETTINGS))
    assert caps_of(pools) == {"spill:other": 100.0}


def test_a_spilled_request_is_reserved_and_charged_to_its_tenant_until_it_has_ended() -> None:
    one, limiter = overflow()
    asker: Any = Asker()
    decision = one.decide(asker, 1.0)
    assert isinstance(decision, Spill)
    assert (decision.why, decision.reserved) == (Why.STARTING, pytest.approx(RESERVED))
    one.take(asker, decision, 1.0)
    assert one.in_flight == 1
    assert one.money_left(1.0) == pytest.approx(100.0 - RESERVED)
    assert asker.charge == Charge(0.0, decision.reserved)
    one.ended(decision, 0.25, 2.0)
    assert (one.in_flight, one.money) == (0, 0.25)
    assert one.money_left(2.0) == pytest.approx(99.75)
    assert limiter.cut()[account_of(POOL)].money == pytest.approx(0.25)


def test_one_on_which_the_provider_failed_is_charged_as_work_again() -> None:
    one, limiter = overflow(pool(price_per_gpu_hour=3600.0))
    asker: Any = Asker()
    decision = one.decide(asker, 1.0)
    assert isinstance(decision, Spill)
    one.take(asker, decision, 1.0)
    one.failed(asker, decision, "status 502", 1.5, unreachable=False, of_the_request=False)
    assert (one.in_flight, one.money, one.failures) == (0, 0.0, 1)
    assert one.money_left(1.5) == pytest.approx(100.0)
    gpu_s = asker.weight.gpu_s
    assert asker.charge == Charge(gpu_s, pytest.approx(gpu_s))
    assert limiter.cut()[PAYER.name].money == pytest.approx(gpu_s)


@given(st.lists(st.tuples(st.sampled_from(["take", "end", "fail"]), st.floats(0.0, 3.0)), max_size=60))
def test_reservations_never_pass_the_cap_and_leave_nothing_behind(steps: list[tuple[str, float]]) -> None:
    one, _ = overflow(settings=SpillSettings(model="m", price=PRICE, money_per_day=7.0))
    flying: list[tuple[Any, Spill]] = []
    paid = 0.0
    for step, money in steps:
        if step == "take":
            asker: Any = Asker()
            decision = one.decide(asker, 1.0)
            if isinstance(decision, Spill):
                one.take(asker, decision, 1.0)
                flying.append((asker, decision))
        elif flying and step == "end":
            cost = min(money, RESERVED)
            one.ended(flying.pop()[1], cost, 1.0)
            paid += cost
        elif flying:
            asker, decision = flying.pop()
            one.failed(asker, decision, "", 1.0, unreachable=False, of_the_request=True)
        assert one.in_flight == len(flying)
        assert paid + sum(spill.reserved for _, spill in flying) <= 7.0 + 1e-9
    for _, decision in flying:
        one.ended(decision, 0.0, 1.0)
    assert one.money_left(1.0) == pytest.approx(7.0 - paid)


def test_unreachable_opens_the_breaker_at_once_and_five_failures_do() -> None:
    for unreachable, most in ((True, 1), (False, 5)):
        one, _ = overflow()
        failures = 0
        while one.provider.usable(1.0):
            asker: Any = Asker()
            decision = one.decide(asker, 1.0)
            assert isinstance(decision, Spill)
            one.take(asker, decision, 1.0)
            one.failed(asker, decision, "", 1.0, unreachable=unreachable, of_the_request=False)
            failures += 1
        assert failures == most
        refused: Any = Asker()
        decision_then = one.decide(refused, 1.0)
        assert isinstance(decision_then, Stay)
        assert decision_then.why is WhyNot.PROVIDER
        assert one.stayed == {"provider": 1}


def test_workers_share_what_may_be_in_flight() -> None:
    one, _ = overflow(settings=SpillSettings(model="m", price=PRICE, money_per_day=100.0, max_in_flight=4), workers=2)
    for _ in range(2):
        asker: Any = Asker()
        decision = one.decide(asker, 1.0)
        assert isinstance(decision, Spill)
        one.take(asker, decision, 1.0)
    third: Any = Asker()
    assert one.decide(third, 1.0) == Stay(WhyNot.IN_FLIGHT, "2 requests are at the provider already")


@pytest.mark.parametrize(
    ("after_wait_s", "asked_at_s"),
    [
        pytest.param(0.0, [LEASE_S, LEASE_S + RECONSIDER_S], id="at once, but for a lease"),
        pytest.param(0.7, [RECONSIDER_S, 0.7, 0.7 + RECONSIDER_S], id="when it has waited"),
    ],
)
def test_what_waits_is_looked_at_when_it_has_waited_and_again(after_wait_s: float, asked_at_s: list[float]) -> None:
    one, _ = overflow(settings=SpillSettings(model="m", price=PRICE, money_per_day=1.0, after_wait_s=after_wait_s))
    asker: Any = Asker()
    seat = one._pool.enter(asker, 0.0, first=False)
    one.watch(seat, 0.0)
    for tick in range(131):
        one.tick(tick / 100.0)
    assert asker.asked_at_s[: len(asked_at_s)] == pytest.approx(asked_at_s)
    asker.asked_at_s.clear()
    one._pool.leave(seat, 1.3)
    one.tick(9.0)
    assert asker.asked_at_s == []
