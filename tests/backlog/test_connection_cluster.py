"""A real cluster of two nodes: every pool's keys are on one of them, wherever the slot is at the moment."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import hiredis
import pytest

from backlog.connection import BacklogUnavailable, Call, Connection, connect_redis
from tests.backlog.scripted import GET, PUT
from tests.backlog.waiting import LIMIT_S
from tests.redis_servers import Server, cluster_url, free_port, move_slot, start_cluster, start_redis

FIRST, SECOND = "{code}", "{chat}"
"""Hash tags of slots on the first and on the second node."""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """A cluster takes 2 s to begin: one for all tests here."""
    with start_cluster(tmp_path_factory.mktemp("cluster")) as started:
        yield started


@pytest.fixture
async def connection(nodes: list[Server]) -> AsyncIterator[Connection]:
    for node in nodes:
        node.tell("FLUSHALL")
    made = connect_redis(cluster_url(nodes), timeout_s=LIMIT_S)
    yield made
    await made.close()


def slot_of(node: Server, tag: str) -> int:
    return int(node.tell("CLUSTER", "KEYSLOT", tag))


async def written(connection: Connection, tag: str, value: str) -> None:
    answers = await connection.run(Call(PUT, [f"{tag}k"], [value]), Call(GET, [f"{tag}k"], []))
    assert answers == [value.encode()] * 2


async def test_pools_on_different_nodes_are_served_at_the_same_time(
    nodes: list[Server], connection: Connection
) -> None:
    await asyncio.gather(*(written(connection, tag, f"{tag}{number}") for tag in (FIRST, SECOND) for number in [1] * 9))
    assert [node.tell("KEYS", "*") for node in nodes] == [[f"{FIRST}k"], [f"{SECOND}k"]]


async def test_scripts_that_the_nodes_have_forgotten_are_sent_again(
    nodes: list[Server], connection: Connection
) -> None:
    for value in ("1", "2"):
        for tag in (FIRST, SECOND):
            await written(connection, tag, value)
        for node in nodes:
            node.tell("SCRIPT", "FLUSH")


async def test_single_commands_and_waits_go_to_the_node_of_their_key(connection: Connection) -> None:
    for tag in (FIRST, SECOND):
        await connection.ask("RPUSH", f"{tag}list", b"\xff")
        assert await connection.pop(f"{tag}list", wait_s=LIMIT_S) == b"\xff"
        assert await connection.pop(f"{tag}list", wait_s=0.01) is None


async def test_a_slot_that_has_moved_is_followed(nodes: list[Server], connection: Connection) -> None:
    one, other = nodes
    slot = slot_of(one, FIRST)
    await written(connection, FIRST, "before")
    one.tell("FLUSHALL")
    move_slot(slot, source=one, target=other)
    try:
        for value in ("after", "later"):
            await written(connection, FIRST, value)
        assert await connection.pop(f"{FIRST}list", wait_s=0.01) is None
        assert [node.tell("DBSIZE") for node in nodes] == [0, 1]
    finally:
        other.tell("FLUSHALL")
        move_slot(slot, source=other, target=one)
    await written(connection, FIRST, "back")


async def test_a_row_over_two_slots_is_refused_or_answered_in_order(connection: Connection) -> None:
    answers = await connection.run(Call(PUT, [f"{FIRST}k"], [1]), Call(PUT, [f"{SECOND}k"], [2]))
    assert answers == [b"1", b"2"]
    with pytest.raises(BacklogUnavailable, match="slot"):
        await connection.run(Call(PUT, [f"{FIRST}k", f"{SECOND}k"], [1]))


async def test_a_node_that_is_away_does_not_keep_a_new_worker_from_the_others(nodes: list[Server]) -> None:
    urls = f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{nodes[1].port}"
    connection = connect_redis(urls, timeout_s=LIMIT_S)
    await written(connection, FIRST, "x")
    await connection.close()


async def test_a_cancelled_row_leaves_no_answer_behind(connection: Connection) -> None:
    await written(connection, FIRST, "x")
    for turns in range(40):
        call = asyncio.create_task(connection.run(Call(PUT, [f"{FIRST}cancelled"], ["stray"])))
        for _ in range(turns):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await written(connection, FIRST, "x")


async def test_a_node_that_hangs_costs_only_its_own_pools_and_closing_does_not_wait(nodes: list[Server]) -> None:
    connection = connect_redis(cluster_url(nodes), timeout_s=0.3)
    # A busy machine may take longer for the first contact.
    for tag in (FIRST, SECOND):
        await until_written(connection, tag)
    nodes[0].pause()
    try:
        async with asyncio.timeout(LIMIT_S):
            with pytest.raises(BacklogUnavailable):
                await written(connection, FIRST, "x")
            await until_written(connection, SECOND)
            await connection.close()
    finally:
        nodes[0].resume()


async def test_slots_are_looked_for_elsewhere_once_their_node_hangs() -> None:
    async with scripted_node() as one, scripted_node() as other:
        one.shards = other.shards = [(0, 16_382, one), (16_383, 16_383, other)]
        connection = connect_redis(f"redis+cluster://127.0.0.1:{one.port}", timeout_s=0.2)
        assert await connection.run(Call(GET, ["k"], [])) == [one.port]
        one.hangs = True
        other.shards = [(0, 16_383, other)]
        with pytest.raises(BacklogUnavailable, match="did not answer"):
            await connection.run(Call(GET, ["k"], []))
        answers: list[int] = []
        async with asyncio.timeout(LIMIT_S):
            while not answers:
                # The first node to be asked where the slots are may be the one that hangs.
                with suppress(BacklogUnavailable):
                    answers = await connection.run(Call(GET, ["k"], []))
        assert answers == [other.port]
        await connection.close()


class ScriptedNode:
    """Says which node has which slots, and answers scripts with its port."""

    def __init__(self) -> None:
        self.port = 0
        self.shards: list[tuple[int, int, ScriptedNode]] = []
        self.hangs = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        commands = hiredis.Reader()
        while data := await reader.read(65536):
            commands.feed(data)
            while (command := commands.gets()) is not False:
                if not self.hangs:
                    writer.write(self.answer([word.decode() for word in command]))
        writer.close()

    def answer(self, command: list[str]) -> bytes:
        match command:
            case ["CLUSTER", "SLOTS"]:
                nodes = [
                    f"*3\r\n:{begin}\r\n:{end}\r\n*3\r\n$9\r\n127.0.0.1\r\n:{node.port}\r\n$1\r\n{index}\r\n"
                    for index, (begin, end, node) in enumerate(self.shards)
                ]
                return f"*{len(nodes)}\r\n{''.join(nodes)}".encode()
            case ["COMMAND", *_]:
                return b"*0\r\n"
            case ["EVAL" | "EVALSHA", *_]:
                return f":{self.port}\r\n".encode()
            case _:
                return b"+OK\r\n"


@asynccontextmanager
async def scripted_node() -> AsyncIterator[ScriptedNode]:
    node = ScriptedNode()
    listener = await asyncio.start_server(node.serve, "127.0.0.1", 0)
    node.port = listener.sockets[0].getsockname()[1]
    async with listener:
        yield node


async def test_a_node_that_died_is_used_again_when_it_is_back(nodes: list[Server], connection: Connection) -> None:
    tags = (FIRST, SECOND)
    await asyncio.gather(*(written(connection, tag, tag) for tag in tags for _ in range(4)))
    nodes[0].kill()
    with pytest.raises(BacklogUnavailable):
        await written(connection, FIRST, "x")
    await until_written(connection, SECOND)
    nodes[0].start()
    await until_written(connection, FIRST)


async def until_written(connection: Connection, tag: str) -> None:
    async with asyncio.timeout(LIMIT_S):
        while True:
            try:
                return await written(connection, tag, "x")
            except BacklogUnavailable:
                await asyncio.sleep(0.01)


async def test_a_server_that_is_no_cluster_is_unavailable(tmp_path: Path) -> None:
    with start_redis(tmp_path) as server:
        connection = connect_redis(server.url_of("redis+cluster"), timeout_s=LIMIT_S)
        with pytest.raises(BacklogUnavailable, match="luster"):
            await written(connection, FIRST, "x")
        await connection.close()
