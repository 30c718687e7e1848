"""Accounts on a real Redis: a batch counts once, buckets refill by the Redis clock, nothing stays for ever."""

import asyncio
from calendar import monthrange
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis as BlockingRedis
from redis.asyncio import Redis

from backlog import keys
from backlog.account import AccountBatch, Charge, Standing, Usage, UsageKey
from backlog.accounts import Accounts
from backlog.connection import BacklogUnavailable, Connection, connect_redis
from backlog.scripts import script
from tests.backlog.waiting import LIMIT_S

CHAT = UsageKey("blue", "chat", "org/m|1:x")
USED = Usage(
    requests=2,
    input_tokens=700,
    cached_tokens=64,
    output_tokens=90,
    prefill_gpu_s=0.5,
    decode_gpu_s=1.25,
    money=0.125,
    spilled_requests=1,
    spilled_input_tokens=300,
    spilled_output_tokens=20,
    spilled_money=0.25,
)
MICROSECOND = timedelta(microseconds=1)
HUGE = 1e9
"""GPU-seconds per minute of a bucket; what refills in a test is of this order."""


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
async def connection(redis_url: str) -> AsyncIterator[Connection]:
    opened = connect_redis(redis_url, timeout_s=LIMIT_S)
    yield opened
    await opened.close()


@pytest.fixture
def accounts(connection: Connection, redis_prefix: str) -> Accounts:
    return Accounts(connection, redis_prefix)


async def today(redis: Redis) -> date:
    seconds, _ = await redis.time()
    return datetime.fromtimestamp(seconds, UTC).date()


@pytest.fixture
def calendar(redis_url: str) -> Iterator[Callable[[int], list[Any]]]:
    """`calendar` of the Lua file, for any clock in microseconds."""
    text = script("calendar").text + "\nreturn {calendar(tonumber(ARGV[1]))}"
    with BlockingRedis.from_url(redis_url) as client:
        yield lambda at_us: client.eval(text, 0, at_us)


def batch(number: int, *, usage: Usage = USED, **charges: Charge) -> AccountBatch:
    return AccountBatch(number=number, usage={CHAT: usage}, charges=charges)


async def booked(accounts: Accounts, redis: Redis) -> Usage:
    """All that was booked under `CHAT` yesterday, today and tomorrow: a test may run at midnight."""
    day, total = await today(redis), Usage()
    for row in await accounts.usage(day - timedelta(days=1), day + timedelta(days=1)):
        assert row.key == CHAT
        total += row.usage
    return total


async def standing(accounts: Accounts, tenant: str = "blue", per_minute: float | None = None) -> Standing:
    return (await accounts.settle("reader", None, {tenant: per_minute}))[tenant]


async def test_what_was_used_can_be_read_with_every_field(accounts: Accounts, redis: Redis) -> None:
    await accounts.settle("w", batch(1), {})
    assert await booked(accounts, redis) == USED


async def test_a_repeated_batch_changes_nothing_and_is_still_answered(accounts: Accounts, redis: Redis) -> None:
    for _ in range(3):
        standings = await accounts.settle("w", batch(1, blue=Charge(2.0, 0.5)), {"blue": None})
        assert (standings["blue"].day.gpu_s, standings["blue"].day.money) == (2.0, 0.5)
        assert (standings["blue"].month.gpu_s, standings["blue"].month.money) == (2.0, 0.5)
    assert await booked(accounts, redis) == USED


async def test_a_batch_that_comes_after_a_later_one_changes_nothing(accounts: Accounts, redis: Redis) -> None:
    await accounts.settle("w", batch(2), {})
    await accounts.settle("w", batch(1), {})
    assert await booked(accounts, redis) == USED


async def test_batches_of_different_workers_are_numbered_by_themselves(accounts: Accounts, redis: Redis) -> None:
    await accounts.settle("w", batch(7), {})
    await accounts.settle("v", batch(1), {})
    await accounts.settle("w", batch(8), {})
    assert await booked(accounts, redis) == USED + USED + USED


@given(sent=st.lists(st.tuples(st.sampled_from(["v", "w"]), st.integers(1, 4)), max_size=12))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_repeats_each_number_counts_once(
    sent: list[tuple[str, int]], redis_url: str, redis_prefix: str
) -> None:
    async def history() -> float:
        connection = connect_redis(redis_url, timeout_s=LIMIT_S)
        accounts = Accounts(connection, redis_prefix)
        for worker, number in sent:
            await accounts.settle(worker, batch(number, blue=Charge(10.0**number)), {"blue": HUGE})
        spent = (await standing(accounts)).month.gpu_s
        await connection.close()
        return spent

    last = {"v": 0, "w": 0}
    expected = 0.0
    for worker, number in sent:
        if number > last[worker]:
            last[worker] = number
            expected += 10.0**number
    with BlockingRedis.from_url(redis_url) as client:
        client.flushall()
    assert asyncio.run(history()) == expected


async def test_charges_of_all_workers_are_spent_by_the_tenant_and_corrections_give_back(accounts: Accounts) -> None:
    await accounts.settle("w", batch(1, blue=Charge(3.0, 1.0), red=Charge(5.0)), {})
    await accounts.settle("v", batch(1, blue=Charge(-1.0, -0.25)), {})
    blue = await standing(accounts)
    assert (blue.day.gpu_s, blue.day.money) == (blue.month.gpu_s, blue.month.money) == (2.0, 0.75)


async def test_a_tenant_that_nobody_has_heard_of_has_a_full_bucket_and_has_spent_nothing(accounts: Accounts) -> None:
    new = await standing(accounts, "new", 60.0)
    assert (new.bucket_gpu_s, new.day.gpu_s, new.day.money, new.month.gpu_s, new.month.money) == (60.0, 0, 0, 0, 0)


async def test_a_bucket_is_charged_below_zero_and_refills_by_the_redis_clock(accounts: Accounts, redis: Redis) -> None:
    before_s, before_us = await redis.time()
    charged = await accounts.settle("w", batch(1, blue=Charge(3 * HUGE)), {"blue": HUGE})
    level = charged["blue"].bucket_gpu_s
    assert level == pytest.approx(-2 * HUGE)
    later = (await standing(accounts, per_minute=HUGE)).bucket_gpu_s
    after_s, after_us = await redis.time()
    elapsed_s = after_s - before_s + (after_us - before_us) / 1e6
    assert later is not None
    assert -2 * HUGE <= later <= -2 * HUGE + elapsed_s * HUGE / 60 + 1


async def test_a_bucket_never_holds_more_than_a_minute(accounts: Accounts, redis: Redis, redis_prefix: str) -> None:
    await accounts.settle("w", batch(1, blue=Charge(30.0)), {"blue": 60.0})
    await redis.hincrby(f"{keys.bucket_stem(redis_prefix)}blue", "at", -3600_000_000)
    assert (await standing(accounts, per_minute=60.0)).bucket_gpu_s == 60.0
    await accounts.settle("w", batch(2, blue=Charge(-90.0)), {"blue": 60.0})
    assert (await standing(accounts, per_minute=60.0)).bucket_gpu_s == 60.0


async def test_a_minute_ago_is_a_whole_refill(accounts: Accounts, redis: Redis, redis_prefix: str) -> None:
    await accounts.settle("w", batch(1, blue=Charge(HUGE)), {"blue": HUGE})
    await redis.hincrby(f"{keys.bucket_stem(redis_prefix)}blue", "at", -30_000_000)
    level = (await standing(accounts, per_minute=HUGE)).bucket_gpu_s
    assert level is not None
    assert HUGE / 2 <= level <= HUGE / 2 + LIMIT_S * HUGE / 60


async def test_a_clock_that_was_set_back_takes_nothing(accounts: Accounts, redis: Redis, redis_prefix: str) -> None:
    await accounts.settle("w", batch(1, blue=Charge(90.0)), {"blue": 60.0})
    await redis.hincrby(f"{keys.bucket_stem(redis_prefix)}blue", "at", 3600_000_000)
    assert (await standing(accounts, per_minute=60.0)).bucket_gpu_s == -30.0


async def test_a_bucket_lives_until_it_would_be_full(accounts: Accounts, redis: Redis, redis_prefix: str) -> None:
    await accounts.settle("w", batch(1, blue=Charge(180.0)), {"blue": 60.0})
    left_ms = await redis.pttl(f"{keys.bucket_stem(redis_prefix)}blue")
    assert 180_000 - LIMIT_S * 1000 < left_ms <= 181_000
    await accounts.settle("w", batch(2, blue=Charge(-180.0)), {"blue": 60.0})
    assert await redis.exists(f"{keys.bucket_stem(redis_prefix)}blue") == 0


async def test_without_a_rate_there_is_no_bucket(accounts: Accounts, redis: Redis, redis_prefix: str) -> None:
    await accounts.settle("w", batch(1, blue=Charge(180.0)), {"blue": None})
    assert (await standing(accounts)).bucket_gpu_s is None
    assert await redis.exists(f"{keys.bucket_stem(redis_prefix)}blue") == 0


async def test_every_key_lives_as_long_as_it_says(accounts: Accounts, redis: Redis, redis_prefix: str) -> None:
    await accounts.settle("w", batch(1, blue=Charge(1.0, 1.0)), {"blue": 60.0})
    lives = {key.decode(): await redis.ttl(key) async for key in redis.scan_iter(f"{redis_prefix}:*")}
    day = next(key for key in lives if ":usage:" in key)[-10:]
    expected = {
        keys.usage_key(redis_prefix, date.fromisoformat(day)): keys.USAGE_TTL_S,
        f"{keys.spent_stem(redis_prefix)}{day}": keys.SPENT_DAY_TTL_S,
        f"{keys.spent_stem(redis_prefix)}{day[:7]}": keys.SPENT_MONTH_TTL_S,
        f"{keys.bucket_stem(redis_prefix)}blue": 2.0,
        keys.booked_key(redis_prefix, "w"): keys.BOOKED_TTL_S,
    }
    assert lives.keys() == expected.keys()
    for key, ttl_s in expected.items():
        assert ttl_s - LIMIT_S < lives[key] <= ttl_s, key


async def test_asking_changes_nothing(accounts: Accounts, redis: Redis, redis_prefix: str) -> None:
    await standing(accounts, per_minute=60.0)
    assert await redis.keys(f"{redis_prefix}:*") == []


async def test_usage_is_read_by_day_and_by_tenant(accounts: Accounts, redis: Redis, redis_prefix: str) -> None:
    first, second = date(2026, 2, 28), date(2026, 3, 1)
    for day, tenant, tokens in ((first, "red", 1), (first, "blue", 2), (second, "blue", 3)):
        await redis.hset(keys.usage_key(redis_prefix, day), f"{tenant} chat m output_tokens", tokens)
        await redis.expire(keys.usage_key(redis_prefix, day), 60)

    async def rows(since: date, until: date, tenant: str | None = None) -> list[tuple[date, str, int]]:
        found = await accounts.usage(since, until, tenant)
        return [(row.day, row.key.tenant, row.usage.output_tokens) for row in found]

    assert await rows(first, second) == [(first, "blue", 2), (first, "red", 1), (second, "blue", 3)]
    assert await rows(first, first) == [(first, "blue", 2), (first, "red", 1)]
    assert await rows(first, second, "red") == [(first, "red", 1)]
    assert await rows(second, first) == []


async def test_no_more_days_are_read_than_are_kept(accounts: Accounts, redis: Redis, redis_prefix: str) -> None:
    await redis.config_resetstat()
    await accounts.usage(date(1, 1, 1), date(2026, 3, 1))
    calls = (await redis.info("commandstats"))["cmdstat_hgetall"]["calls"]
    assert calls == 401


async def test_a_field_that_is_not_known_is_left_out(accounts: Accounts, redis: Redis, redis_prefix: str) -> None:
    key = keys.usage_key(redis_prefix, date(2026, 3, 1))
    await redis.hset(key, mapping={"blue chat m requests": 1, "blue chat m images": 4})
    await redis.expire(key, 60)
    assert [row.usage for row in await accounts.usage(date(2026, 3, 1), date(2026, 3, 1))] == [Usage(requests=1)]


@pytest.mark.parametrize(("field", "value"), [("requests", "1"), ("a b m requests", "many"), (b"\xff m n money", "1")])
async def test_a_corrupt_day_is_named(
    field: str | bytes, value: str, accounts: Accounts, redis: Redis, redis_prefix: str
) -> None:
    key = keys.usage_key(redis_prefix, date(2026, 3, 1))
    await redis.hset(key, field, value)
    await redis.expire(key, 60)
    with pytest.raises(BacklogUnavailable, match=r"corrupt record at .*2026-03-01"):
        await accounts.usage(date(2026, 3, 1), date(2026, 3, 1))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
async def test_a_number_that_is_not_finite_is_refused(number: float, accounts: Accounts) -> None:
    for bad in (batch(1, blue=Charge(number)), batch(1, usage=Usage(money=number))):
        with pytest.raises(ValueError, match="finite"):
            await accounts.settle("w", bad, {})


async def test_numbers_keep_their_precision(accounts: Accounts, redis: Redis) -> None:
    small = Usage(requests=1, output_tokens=2**53, prefill_gpu_s=1e-9, decode_gpu_s=123456.789012345)
    await accounts.settle("w", batch(1, usage=small), {})
    assert await booked(accounts, redis) == small


async def test_a_booking_is_one_round_trip_for_any_number_of_tenants(accounts: Accounts, redis: Redis) -> None:
    names = [f"t{n}" for n in range(1000)]
    full = AccountBatch(
        number=1, usage={UsageKey(name, "p", "m"): USED for name in names}, charges=dict.fromkeys(names, Charge(1.0))
    )
    await accounts.settle("w", None, {})
    await redis.config_resetstat()
    standings = await accounts.settle("w", full, dict.fromkeys(names, HUGE))
    stats = await redis.info("commandstats")
    assert stats["cmdstat_evalsha"]["calls"] == 1
    assert {standing.day.gpu_s for standing in standings.values()} == {1.0}


@given(st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_calendar_in_lua_is_that_of_python(calendar: Callable[[int], list[Any]], at: datetime) -> None:
    day, month, day_left_us, month_left_us = calendar((at - datetime(1970, 1, 1, tzinfo=UTC)) // MICROSECOND)
    midnight = datetime(at.year, at.month, at.day, tzinfo=UTC) + timedelta(days=1)
    first = datetime(at.year, at.month, 1, tzinfo=UTC) + timedelta(days=monthrange(at.year, at.month)[1])
    assert (day.decode(), month.decode()) == (at.date().isoformat(), f"{at:%Y-%m}")
    assert (day_left_us * MICROSECOND, month_left_us * MICROSECOND) == (midnight - at, first - at)
