"""Who may talk to Redis and whom Redis may be: certificates, passwords, ACL users, for each form of URL."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from backlog.connection import BacklogUnavailable, Call, Connection, connect_redis
from backlog.store import connect
from backlog.turn import Turn
from tests.backlog.samples import POOL, decision, worker_report
from tests.backlog.scripted import GET, PUT
from tests.backlog.waiting import LIMIT_S
from tests.redis_servers import make_certificates, start_cluster, start_redis, start_sentinel

ROW = [Call(PUT, ["{a}1"], ["x"]), Call(GET, ["{a}1"], [])]
SECRET = "s3cret"
RIGHTS = "+@read +@write +@scripting +@connection +time +info"


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    connection = connect_redis(url, timeout_s=LIMIT_S)
    try:
        yield connection
    finally:
        await connection.close()


async def test_a_server_with_tls_and_a_password(tmp_path: Path) -> None:
    with start_redis(tmp_path, password=SECRET, certificates=make_certificates(tmp_path)) as server:
        async with connected(server.url) as connection:
            assert await connection.run(*ROW) == [b"x", b"x"]
            assert await connection.pop("list", wait_s=0.01) is None
            server.kill()
            server.start()
            assert await connection.run(*ROW) == [b"x", b"x"]


async def test_a_server_whose_certificate_nobody_vouches_for_is_not_talked_to(tmp_path: Path) -> None:
    with start_redis(tmp_path, password=SECRET, certificates=make_certificates(tmp_path)) as server:
        untrusted = server.url.partition("?")[0]
        async with connected(untrusted) as connection:
            with pytest.raises(BacklogUnavailable, match=r"(?i)certificate"):
                await connection.run(*ROW)
        unchecked = f"{untrusted}?ssl_cert_reqs=none&ssl_check_hostname=false"
        async with connected(unchecked) as connection:
            assert await connection.run(*ROW) == [b"x", b"x"]


async def test_a_server_that_does_not_speak_tls_is_unavailable(tmp_path: Path) -> None:
    with start_redis(tmp_path) as server:
        connection = connect_redis(server.url_of("rediss"), timeout_s=0.3)
        with pytest.raises(BacklogUnavailable):
            await connection.run(*ROW)
        await connection.close()


async def test_a_closed_tls_connection_does_not_wait_for_a_server_that_hangs(tmp_path: Path) -> None:
    with start_redis(tmp_path, certificates=make_certificates(tmp_path)) as server:
        connection = connect_redis(server.url, timeout_s=0.3)
        await connection.run(*ROW)
        server.pause()
        with pytest.raises(BacklogUnavailable, match="did not answer"):
            await connection.run(*ROW)
        await connection.close()


async def test_a_missing_file_of_authorities_is_unavailable(tmp_path: Path) -> None:
    with start_redis(tmp_path, certificates=make_certificates(tmp_path)) as server:
        async with connected(f"rediss://127.0.0.1:{server.port}?ssl_ca_certs={tmp_path}/none.pem") as connection:
            with pytest.raises(BacklogUnavailable):
                await connection.run(*ROW)


async def test_sentinel_and_its_master_have_passwords_of_their_own_and_tls(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    with (
        start_redis(tmp_path, password=SECRET, certificates=certificates) as master,
        start_sentinel(tmp_path, master, password="watch") as sentinel,
    ):
        location = f"rediss+sentinel://:{SECRET}@127.0.0.1:{sentinel.port}/main?ssl_ca_certs={certificates.authority}"
        async with connected(f"{location}&sentinel_password=watch") as connection:
            assert await connection.run(*ROW) == [b"x", b"x"]
        async with connected(location) as connection:
            with pytest.raises(BacklogUnavailable):
                await connection.run(*ROW)


async def test_a_cluster_with_tls_and_a_password(tmp_path: Path) -> None:
    with start_cluster(tmp_path, nodes=1, password=SECRET, certificates=make_certificates(tmp_path)) as nodes:
        async with connected(nodes[0].url_of("redis+cluster")) as connection:
            assert await connection.run(*ROW) == [b"x", b"x"]
            assert await connection.pop("list", wait_s=0.01) is None


async def test_the_rights_that_are_documented_are_enough_for_a_user(tmp_path: Path) -> None:
    with start_redis(tmp_path, f"user wb on >{SECRET} ~wb:* {RIGHTS}") as server:
        backlog = connect(f"redis://wb:{SECRET}@127.0.0.1:{server.port}", timeout_s=LIMIT_S)
        view = await backlog.exchange(POOL, worker_report("w1"))
        assert len(view.reports) == 1
        worker = worker_report("w1").worker
        assert (await backlog.turn(POOL, worker, Turn(report=worker_report("w1"), look=True))).view is not None
        assert await backlog.mail(POOL, worker, wait_s=0.01) is None
        await backlog.publish_replicas(POOL, [])
        await backlog.publish_decision(POOL, decision())
        assert len(await backlog.decisions(POOL)) == 1
        await backlog.leave(POOL, worker)
        await backlog.close()
        async with connected(f"redis://wb:{SECRET}@127.0.0.1:{server.port}") as connection:
            with pytest.raises(BacklogUnavailable, match=r"(?i)no permissions|NOPERM|can't access"):
                await connection.run(*ROW)
