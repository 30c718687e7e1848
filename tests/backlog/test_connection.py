"""What the connection promises when nothing fails, on a real Redis."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backlog.connection import BacklogUnavailable, Call, Connection, connect_redis
from tests.backlog.scripted import GET, PUT, lua
from tests.backlog.waiting import LIMIT_S

ERROR = lua("return redis.error_reply('BROKEN on purpose')")


@pytest.fixture
async def connection(redis_url: str, redis_prefix: str) -> AsyncIterator[Connection]:
    made = connect_redis(redis_url, timeout_s=LIMIT_S)
    yield made
    await made.close()


async def test_answers_come_in_the_order_of_the_calls(connection: Connection) -> None:
    calls = [Call(PUT, [f"{{a}}{number}"], [number]) for number in range(20)]
    assert await connection.run(*calls) == [str(number).encode() for number in range(20)]
    assert await connection.run(Call(GET, ["{a}7"], []), Call(GET, ["{a}none"], [])) == [b"7", None]


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(number=st.floats(allow_nan=False, allow_infinity=False))
def test_floats_arrive_in_full(number: float, redis_url: str) -> None:
    async def put() -> bytes:
        connection = connect_redis(redis_url, timeout_s=LIMIT_S)
        try:
            (answer,) = await connection.run(Call(PUT, ["float"], [number]))
        finally:
            await connection.close()
        return bytes(answer)

    assert float(asyncio.run(put())) == number


async def test_bytes_pass_unchanged(connection: Connection) -> None:
    raw = bytes(range(256))
    assert await connection.run(Call(PUT, ["raw"], [raw])) == [raw]
    assert await connection.ask("GET", "raw") == raw


async def test_scripts_that_redis_has_forgotten_are_sent_again(connection: Connection) -> None:
    for _ in range(2):
        assert await connection.run(Call(PUT, ["{a}1"], [1]), Call(GET, ["{a}1"], [])) == [b"1", b"1"]
        await connection.ask("SCRIPT FLUSH")


async def test_a_text_is_sent_once(connection: Connection) -> None:
    await connection.ask("CONFIG", "RESETSTAT")
    for _ in range(3):
        await connection.run(Call(PUT, ["{a}1"], [1]))
    stats = await connection.ask("INFO", "commandstats")
    assert (stats["cmdstat_eval"]["calls"], stats["cmdstat_evalsha"]["calls"]) == (1, 2)


async def test_a_row_of_which_redis_knows_one_script_is_answered_whole(connection: Connection) -> None:
    await connection.ask("SCRIPT FLUSH")
    await connection.run(Call(PUT, ["{a}1"], [1]))
    assert await connection.run(Call(PUT, ["{a}1"], [2]), Call(GET, ["{a}1"], [])) == [b"2", b"2"]


async def test_a_script_that_fails_makes_the_row_unavailable_and_disturbs_nobody_else(connection: Connection) -> None:
    with pytest.raises(BacklogUnavailable, match="BROKEN on purpose"):
        await connection.run(Call(PUT, ["{a}1"], ["before"]), Call(ERROR, ["{a}1"], []), Call(PUT, ["{a}2"], ["after"]))
    assert await connection.run(Call(GET, ["{a}1"], []), Call(GET, ["{a}2"], [])) == [b"before", b"after"]


async def test_a_command_that_redis_refuses_is_unavailable(connection: Connection) -> None:
    await connection.ask("SET", "text", "x", "PX", 60_000)
    with pytest.raises(BacklogUnavailable, match="WRONGTYPE"):
        await connection.ask("LRANGE", "text", 0, 1)


async def test_calls_at_the_same_time_get_their_own_answers(connection: Connection) -> None:
    async def put(number: int) -> list[bytes]:
        return await connection.run(Call(PUT, [f"k{number}"], [number]), Call(GET, [f"k{number}"], []))

    answers = await asyncio.gather(*(put(number) for number in range(50)))
    assert answers == [[str(number).encode()] * 2 for number in range(50)]


async def test_no_calls_have_no_answers_and_need_no_redis() -> None:
    connection = connect_redis("redis://127.0.0.1:1", timeout_s=LIMIT_S)
    assert await connection.run() == []
    await connection.close()


async def test_a_row_is_one_round_trip_from_the_first_on() -> None:
    """The peer says nothing before it has read the whole row; it greets nobody and asks for no text a second time."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen = b""
        while seen.count(b"EVAL") < 3:
            seen += await reader.read(65536)
        assert b"MULTI" not in seen
        writer.write(b":1\r\n:2\r\n:3\r\n")
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listener:
        connection = connect_redis(f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}", timeout_s=LIMIT_S)
        assert await connection.run(*[Call(GET, ["k"], [])] * 3) == [1, 2, 3]
        await connection.close()


async def test_a_closed_connection_stays_closed(connection: Connection) -> None:
    await connection.ask("GET", "k")
    await connection.close()
    for call in (connection.ask("GET", "k"), connection.run(Call(GET, ["k"], [])), connection.pop("k", wait_s=9.0)):
        with pytest.raises(BacklogUnavailable, match="closed"):
            await call
    await connection.close()


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, float("nan")])
def test_a_timeout_must_be_positive(timeout_s: float) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        connect_redis("redis://127.0.0.1:1", timeout_s=timeout_s)
