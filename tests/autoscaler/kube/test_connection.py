"""Where credentials come from, how they are renewed, and what is said when they are missing."""

import random
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
import yaml
from structlog.testing import capture_logs

from autoscaler.kube.api import KubeApi, Limits
from autoscaler.kube.connection import (
    RELOAD_S,
    ClientConnection,
    NotConnected,
    connect,
    connect_in_cluster,
    connect_kubeconfig,
    connect_url,
)
from autoscaler.kube.errors import Denied, Unavailable
from tests.kube.manifests import config_map
from tests.kube.server import FakeServer

API = "client.authentication.k8s.io/v1"
MAP = "/api/v1/namespaces/default/configmaps/a"


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


Keep = Callable[[ClientConnection], ClientConnection]


@pytest.fixture
async def keep() -> AsyncIterator[Keep]:
    """Closes the connections that it was given."""
    kept: list[ClientConnection] = []

    def add(connection: ClientConnection) -> ClientConnection:
        kept.append(connection)
        return connection

    yield add
    for connection in kept:
        await connection.close()


async def read(connection: ClientConnection) -> str:
    """The name of an object that is there, read over `connection`, which is left open."""
    api = KubeApi(connection, clock=Clock(), rng=random.Random(0), limits=Limits(attempts=1))
    return str((await api.get(MAP))["metadata"]["name"])


def account(directory: Path, token: str, authority: bytes) -> Path:
    """A service account as it is mounted into a pod."""
    directory.mkdir()
    (directory / "token").write_text(token)
    (directory / "ca.crt").write_bytes(authority)
    (directory / "namespace").write_text("serving")
    return directory


async def test_a_kubeconfig_names_server_credentials_and_namespace(tmp_path: Path, clock: Clock, keep: Keep) -> None:
    async with FakeServer(token="t0ken") as server:
        server.store.put("configmaps", config_map("a"))
        path = server.write_kubeconfig(tmp_path / "config", namespace="serving", token="t0ken")
        connection = keep(await connect_kubeconfig(path, clock=clock))
        assert (connection.namespace, connection.server) == ("serving", server.url)
        assert await read(connection) == "a"


async def test_another_context_is_used_when_it_is_named(tmp_path: Path, clock: Clock, keep: Keep) -> None:
    async with FakeServer(token="t0ken") as server:
        path = server.write_kubeconfig(tmp_path / "config", token="wrong")
        document = yaml.safe_load(path.read_text())
        document["users"].append({"name": "other", "user": {"token": "t0ken"}})
        document["contexts"].append({"name": "second", "context": {"cluster": "fake", "user": "other"}})
        path.write_text(yaml.safe_dump(document))
        server.store.put("configmaps", config_map("a"))
        connection = keep(await connect_kubeconfig(path, clock=clock, context="second"))
        assert (await read(connection), connection.namespace) == ("a", None)


async def test_a_token_that_is_refused_is_denied_with_the_servers_words(
    tmp_path: Path, clock: Clock, keep: Keep
) -> None:
    async with FakeServer(token="t0ken") as server:
        connection = keep(
            await connect_kubeconfig(server.write_kubeconfig(tmp_path / "config", token="old"), clock=clock)
        )
        with pytest.raises(Denied, match="401: Unauthorized"):
            await read(connection)


async def test_a_token_file_is_read_again_after_a_minute(tmp_path: Path, clock: Clock, keep: Keep) -> None:
    async with FakeServer(token="first") as server:
        server.store.put("configmaps", config_map("a"))
        token = tmp_path / "token"
        token.write_text("first\n")
        path = server.write_kubeconfig(tmp_path / "config", tokenFile=str(token))
        connection = keep(await connect_kubeconfig(path, clock=clock))
        await read(connection)
        token.write_text("second\n")
        server.token = "second"
        clock.now_s += RELOAD_S
        assert await read(connection) == "a"


async def test_a_refused_token_is_read_again_before_the_next_request(tmp_path: Path, clock: Clock, keep: Keep) -> None:
    async with FakeServer(token="second") as server:
        server.store.put("configmaps", config_map("a"))
        token = tmp_path / "token"
        token.write_text("first")
        path = server.write_kubeconfig(tmp_path / "config", tokenFile=str(token))
        connection = keep(await connect_kubeconfig(path, clock=clock))
        token.write_text("second")
        with pytest.raises(Denied):
            await read(connection)
        assert await read(connection) == "a"


async def test_credentials_that_cannot_be_read_again_stay_in_use(tmp_path: Path, clock: Clock, keep: Keep) -> None:
    async with FakeServer(token="t0ken") as server:
        server.store.put("configmaps", config_map("a"))
        path = server.write_kubeconfig(tmp_path / "config", token="t0ken")
        connection = keep(await connect_kubeconfig(path, clock=clock))
        path.write_text("clusters: []")
        clock.now_s += RELOAD_S
        with capture_logs() as logs:
            assert await read(connection) == "a"
        assert [entry["event"] for entry in logs] == ["credentials not read again"]


def plugin(directory: Path, expiry: str = "") -> dict[str, Any]:
    """An exec plug-in whose token is that of a file, and that counts its runs in another."""
    script = directory / "plugin.py"
    status = f'{{"token": open({str(directory / "token")!r}).read(){expiry}}}'
    script.write_text(
        "import json\n"
        f"open({str(directory / 'runs')!r}, 'a').write('x')\n"
        f"print(json.dumps({{'apiVersion': {API!r}, 'kind': 'ExecCredential', 'status': {status}}}))\n"
    )
    return {"apiVersion": API, "command": sys.executable, "args": [str(script)]}


async def test_an_exec_plugin_runs_once_and_again_when_its_token_is_refused(
    tmp_path: Path, clock: Clock, keep: Keep
) -> None:
    async with FakeServer(token="first") as server:
        server.store.put("configmaps", config_map("a"))
        (tmp_path / "token").write_text("first")
        path = server.write_kubeconfig(tmp_path / "config", exec=plugin(tmp_path))
        connection = keep(await connect_kubeconfig(path, clock=clock))
        for _ in range(2):
            clock.now_s += RELOAD_S
            assert await read(connection) == "a"
        assert (tmp_path / "runs").read_text() == "x"
        (tmp_path / "token").write_text("second")
        server.token = "second"
        with pytest.raises(Denied):
            await read(connection)
        assert await read(connection) == "a"
        assert (tmp_path / "runs").read_text() == "xx"


async def test_an_exec_plugin_runs_again_when_its_answer_has_expired(tmp_path: Path, clock: Clock, keep: Keep) -> None:
    async with FakeServer(token="first") as server:
        server.store.put("configmaps", config_map("a"))
        (tmp_path / "token").write_text("first")
        past = ', "expirationTimestamp": "2020-01-01T00:00:00Z"'
        path = server.write_kubeconfig(tmp_path / "config", exec=plugin(tmp_path, past))
        connection = keep(await connect_kubeconfig(path, clock=clock))
        (tmp_path / "token").write_text("second")
        server.token = "second"
        clock.now_s += RELOAD_S
        assert await read(connection) == "a"


async def test_an_exec_plugin_that_fails_is_said_so(tmp_path: Path, clock: Clock) -> None:
    async with FakeServer() as server:
        path = server.write_kubeconfig(
            tmp_path / "config",
            exec={"apiVersion": API, "command": sys.executable, "args": ["-c", "1/0"]},
        )
        with pytest.raises(NotConnected, match="the exec plug-in gave no credentials"):
            await connect_kubeconfig(path, clock=clock)


async def test_a_pod_speaks_tls_as_its_service_account_and_reads_its_token_again(
    tmp_path: Path, clock: Clock, keep: Keep
) -> None:
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    async with FakeServer(token="first", tls=tls) as server:
        server.store.put("configmaps", config_map("a"))
        mounted = account(tmp_path / "account", "first", authority.cert_pem.bytes())
        environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(server.port)}
        connection = keep(await connect_in_cluster(environ, clock=clock, account=mounted))
        assert (await read(connection), connection.namespace) == ("a", "serving")
        (mounted / "token").write_text("second")
        server.token = "second"
        clock.now_s += RELOAD_S
        assert await read(connection) == "a"


async def test_a_server_with_a_certificate_of_someone_else_is_unavailable(
    tmp_path: Path, clock: Clock, keep: Keep
) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    async with FakeServer(tls=tls) as server:
        mounted = account(tmp_path / "account", "t", trustme.CA().cert_pem.bytes())
        environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(server.port)}
        connection = keep(await connect_in_cluster(environ, clock=clock, account=mounted))
        with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await read(connection)


async def test_a_pod_without_a_service_account_is_told_why(tmp_path: Path, clock: Clock) -> None:
    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "1"}
    with pytest.raises(NotConnected, match="automountServiceAccountToken"):
        await connect_in_cluster(environ, clock=clock, account=tmp_path)


async def test_without_pod_and_kubeconfig_the_error_says_what_to_set(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(NotConnected, match="set KUBECONFIG"):
        await connect(None, clock=clock, environ={})


async def test_the_kubeconfig_of_the_environment_is_found(tmp_path: Path, clock: Clock, keep: Keep) -> None:
    async with FakeServer() as server:
        path = server.write_kubeconfig(tmp_path / "config", namespace="n")
        connection = keep(await connect(None, clock=clock, environ={"KUBECONFIG": f"{path}:/elsewhere"}))
        assert connection.namespace == "n"


def _context(document: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return document | {"contexts": [{"name": "fake", "context": document["contexts"][0]["context"] | changes}]}


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        pytest.param(
            lambda d: d | {"current-context": "typo"}, "has no context typo; there are: fake", id="no context"
        ),
        pytest.param(lambda d: d | {"current-context": ""}, "has no current-context; there are: fake", id="no current"),
        pytest.param(lambda d: d | {"contexts": None}, "there are: none", id="no contexts at all"),
        pytest.param(lambda d: _context(d, cluster="other"), "Expected object with name other", id="unknown cluster"),
        pytest.param(lambda d: d | {"clusters": [{"name": "fake"}]}, "Expected key cluster", id="no cluster in it"),
    ],
)
async def test_what_is_wrong_with_a_kubeconfig_is_said_without_its_secrets(
    tmp_path: Path, clock: Clock, change: Callable[[dict[str, Any]], dict[str, Any]], cause: str
) -> None:
    async with FakeServer() as server:
        path = server.write_kubeconfig(tmp_path / "config", token="s3cret")
    path.write_text(yaml.safe_dump(change(yaml.safe_load(path.read_text()))))
    with pytest.raises(NotConnected) as raised:
        await connect_kubeconfig(path, clock=clock)
    assert cause in str(raised.value)
    assert "s3cret" not in str(raised.value)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("text", "cause"),
    [("token: [s3cret", "is not YAML"), ("s3cret", "is not a mapping")],
    ids=["not YAML", "a word"],
)
async def test_a_file_that_is_no_kubeconfig_is_said_so(tmp_path: Path, clock: Clock, text: str, cause: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(NotConnected, match=cause) as raised:
        await connect_kubeconfig(path, clock=clock)
    assert "s3cret" not in str(raised.value)


async def test_a_kubeconfig_that_is_not_there_is_said_so(tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(NotConnected, match="No such file"):
        await connect_kubeconfig(tmp_path / "config", clock=clock)


def test_without_the_client_the_error_names_the_extra(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes.aio", None)
    with pytest.raises(NotConnected, match=r"pip install 'weighbridge\[kubernetes\]'"):
        connect_url("http://127.0.0.1:1", clock=clock)


async def test_a_server_that_vanishes_without_a_word_is_noticed_by_the_kernel(clock: Clock, keep: Keep) -> None:
    async with FakeServer() as server:
        connection = keep(connect_url(server.url, clock=clock))
        response = await connection.send(
            "GET",
            "/api/v1/nodes",
            query={"watch": "1"},
            body=None,
            content_type="application/json",
            timeout=aiohttp.ClientTimeout(total=10),
        )
        async with response:
            assert response.connection is not None
            assert response.connection.transport is not None
            used = response.connection.transport.get_extra_info("socket")
            assert used.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            options = [socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT]
            assert [used.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [30, 10, 3, 60_000]


def test_importing_the_package_does_not_import_the_client() -> None:
    modules = "autoscaler.kube.api, autoscaler.kube.connection, autoscaler.kube.watch"
    code = f"import {modules}, sys; sys.exit('kubernetes' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
