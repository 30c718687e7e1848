"""A tenant's requests are limited, priced and booked; those of others are not held up by that."""

import hashlib
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from backlog.account import NO_USAGE, Usage, UsageKey
from backlog.accounts import Accounts
from backlog.connection import connect_redis
from gateway.settings import TenantLimits, TenantSettings
from tests.flows.conftest import KEY_SHA256, WAIT_S, Gateway, Response, StartGateway, chat, post, until
from tests.flows.scripted import answer, replica, stream

OTHER = TenantSettings(name="other", key_sha256=(hashlib.sha256(b"sk-other").hexdigest(),))
LITTLE = 1e-6
"""GPU-seconds, or money: less than any request."""


def tenant(**limits: float) -> TenantSettings:
    return TenantSettings(name="t", key_sha256=(KEY_SHA256,), limits=TenantLimits(**limits))


async def chat_of_other(gateway: Gateway) -> Response:
    wire = await gateway.connect()
    body = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": "hello"}]})
    wire.send(post("/v1/chat/completions", body, key="sk-other"))
    return await wire.response()


@pytest.fixture
async def accounts(redis_url: str, redis_prefix: str) -> AsyncIterator[Accounts]:
    connection = connect_redis(redis_url, timeout_s=WAIT_S)
    yield Accounts(connection, redis_prefix)
    await connection.close()


async def booked(accounts: Accounts, name: str = "t") -> Usage:
    today = datetime.fromtimestamp(time.time(), UTC).date()
    rows = await accounts.usage(today - timedelta(days=1), today + timedelta(days=1), name)
    assert {row.key for row in rows} <= {UsageKey(name, "p", "m")}
    return sum((row.usage for row in rows), start=NO_USAGE)


async def test_a_tenant_over_its_rate_is_told_when_to_come_back(start_gateway: StartGateway) -> None:
    tenants = [tenant(gpu_s_per_minute=LITTLE), OTHER]
    async with replica(answer) as one, start_gateway([one.url], tenants=tenants) as gateway:
        assert (await gateway.chat()).status == 200
        refused = await gateway.chat()
        assert (await chat_of_other(gateway)).status == 200
    assert (refused.status, refused.headers["x-weighbridge-outcome"]) == (429, "rate-limited")
    assert (refused.error["type"], refused.error["code"]) == ("rate_limit_error", "rate_limited")
    assert int(refused.headers["retry-after"]) > 60
    assert len(one.calls) == 2


@pytest.mark.parametrize("name", ["gpu_s_per_day", "gpu_s_per_month", "money_per_day", "money_per_month"])
async def test_a_tenant_over_its_budget_is_refused_until_the_period_ends(
    start_gateway: StartGateway, name: str
) -> None:
    async with replica(answer) as one:
        started = start_gateway([one.url], tenants=[tenant(**{name: LITTLE})], price_per_gpu_hour=3600.0)
        async with started as gateway:
            assert (await gateway.chat()).status == 200

            async def refused() -> Response | None:
                response = await gateway.chat()
                return response if response.status == 429 else None

            response = await until(refused)
    assert response.headers["x-weighbridge-outcome"] == "budget-spent"
    period = name.rpartition("_")[2]
    assert response.error["message"].endswith(f"for this {period} (UTC)")
    assert 0 < int(response.headers["retry-after"]) <= (86400 if period == "day" else 31 * 86400)


async def test_what_was_served_is_booked_with_its_price(start_gateway: StartGateway, accounts: Accounts) -> None:
    async with replica(stream) as one, start_gateway([one.url], price_per_gpu_hour=7200.0) as gateway:
        for _ in range(2):
            assert (await gateway.chat(stream=True)).status == 200
    used = await booked(accounts)
    assert (used.requests, used.input_tokens, used.output_tokens) == (2, 14, 4)
    assert used.prefill_gpu_s > 0.0
    assert used.decode_gpu_s > 0.0
    assert used.money == pytest.approx(2.0 * used.gpu_s)


async def test_a_request_that_no_replica_worked_on_costs_its_tenant_nothing(
    start_gateway: StartGateway, accounts: Accounts
) -> None:
    async with start_gateway([], tenants=[tenant(gpu_s_per_minute=60.0)], max_wait_s=0.05, cold_start_s=0.0) as gateway:
        assert (await gateway.chat()).status == 503
    assert await booked(accounts) == NO_USAGE
    standings = await accounts.settle("reader", None, {"t": 60.0})
    assert standings["t"].month.gpu_s == pytest.approx(0.0, abs=1e-12)
    assert standings["t"].bucket_gpu_s == pytest.approx(60.0)


async def test_charges_of_ended_requests_are_what_they_used(start_gateway: StartGateway, accounts: Accounts) -> None:
    async with replica(answer) as one, start_gateway([one.url], tenants=[tenant(gpu_s_per_day=1e6)]) as gateway:
        for _ in range(3):
            assert (await gateway.chat()).status == 200
    used = await booked(accounts)
    standings = await accounts.settle("reader", None, {"t": None})
    assert used.requests == 3
    assert standings["t"].month.gpu_s == pytest.approx(used.gpu_s)


async def test_a_client_that_leaves_while_it_waits_is_not_charged(
    start_gateway: StartGateway, accounts: Accounts
) -> None:
    async with start_gateway([], tenants=[tenant(gpu_s_per_minute=60.0)], cold_start_s=40.0) as gateway:
        wire = await gateway.connect()
        wire.send(chat())
        await until(lambda: gateway.pool.room.count)
        wire.close()
        await until(lambda: not gateway.pool.room.count)
    standings = await accounts.settle("reader", None, {"t": 60.0})
    assert standings["t"].month.gpu_s == pytest.approx(0.0, abs=1e-12)
    assert await booked(accounts) == NO_USAGE
