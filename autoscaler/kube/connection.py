"""How to reach a Kubernetes API server, and as whom: from inside a pod, from a kubeconfig, or by a plain URL.

The official client (`kubernetes.aio`, extra `kubernetes`) reads the credentials, makes the TLS context and sends. It is
imported when a connection is made. Credentials that change (a pod's token, a token file, the short-lived answers of an
exec plug-in) are read again every minute, and at once after the server has refused them.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import aiohttp
import structlog
import yaml

from autoscaler.kube.errors import KubeError
from autoscaler.kube.keepalive import kept_alive

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient, Configuration

USER_AGENT = "weighbridge-autoscaler"
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
RELOAD_S = 60.0
# A plug-in that hangs must not hold every request.
RELOAD_LIMIT_S = 20.0


class Load(Protocol):
    """Reads credentials into the client's configuration. Raises `NotConnected`."""

    async def __call__(self, configuration: "Configuration", refused: bool) -> None: ...


log = structlog.get_logger(__name__)


class NotConnected(KubeError):
    """The credentials or the address cannot be had: the configuration is wrong, not the server. Says what to do."""


class ClientConnection:
    """One server as one identity. `namespace` is the pod's own, or that of the kubeconfig's context, None if unknown.

    `server` is the URL for logs. It opens sockets with its first request.
    """

    def __init__(
        self,
        client: "ApiClient",
        *,
        namespace: str | None,
        load: "Load | None",
        clock: Callable[[], float],
    ) -> None:
        self.namespace = namespace
        self.server: str = client.configuration.host
        self._client = client
        self._load = load
        self._clock = clock
        self._read_at_s = clock()
        self._refused = False
        self._reading = asyncio.Lock()
        self._connector: aiohttp.TCPConnector | None = None
        client.user_agent = USER_AGENT

    async def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str],
        body: dict[str, Any] | None,
        content_type: str,
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        """Send and return once the head of the response is here. Raises aiohttp's errors and `OSError`."""
        await self._read_again_if_due()
        self._connect_kept_alive()
        method, url, headers, sent, _ = await self._client.param_serialize(
            method,
            path,
            query_params=list(query.items()),
            header_params={"Content-Type": content_type, "Accept": "application/json"},
            body=body,
            auth_settings=["BearerToken"],
        )
        answer = await self._client.call_api(
            method, url, headers, sent, _request_timeout=timeout, _preload_content=False
        )
        response: aiohttp.ClientResponse = answer.response
        return response

    def refused(self) -> None:
        """The server did not accept the credentials: read them again before the next request."""
        self._refused = True

    async def close(self) -> None:
        await self._client.close()  # type: ignore[no-untyped-call]
        if self._connector is not None:
            await self._connector.close()

    def _connect_kept_alive(self) -> None:
        """Before the first request: a connector needs the running loop, and the client's TLS context."""
        if self._connector is None:
            # No limit: requests are bounded by rate; every watch holds a connection, and none shall wait for one.
            self._connector = aiohttp.TCPConnector(
                limit=0, ssl=self._client.rest_client.ssl_context, socket_factory=kept_alive
            )
            self._client.configuration.client_session_kwargs["connector"] = self._connector

    async def _read_again_if_due(self) -> None:
        if self._load is None or not self._due():
            return
        async with self._reading:
            if not self._due():
                return
            refused, self._refused = self._refused, False
            self._read_at_s = self._clock()
            try:
                async with asyncio.timeout(RELOAD_LIMIT_S):
                    await self._load(self._client.configuration, refused)
            except (KubeError, OSError, TimeoutError) as error:
                # What was read before may still be good; if not, the server says so.
                log.warning("credentials not read again", server=self.server, cause=str(error) or type(error).__name__)

    def _due(self) -> bool:
        return self._refused or self._clock() >= self._read_at_s + RELOAD_S


async def connect(
    kubeconfig: Path | None,
    *,
    clock: Callable[[], float],
    environ: Mapping[str, str],
    context: str | None = None,
) -> ClientConnection:
    """By `kubeconfig` if given, else as the pod that this runs in, else by KUBECONFIG or ~/.kube/config.

    `clock` is monotonic. Raises `NotConnected` with what is missing.
    """
    if kubeconfig is not None:
        return await connect_kubeconfig(kubeconfig, clock=clock, context=context)
    if environ.get("KUBERNETES_SERVICE_HOST") and context is None:
        return await connect_in_cluster(environ, clock=clock)
    # kubectl merges several files; the first is what it writes to, and enough to find a server by.
    named = [part for part in environ.get("KUBECONFIG", "").split(":") if part]
    path = Path(named[0]) if named else Path.home() / ".kube" / "config"
    if not path.exists():
        raise NotConnected(
            f"no Kubernetes API server: this is no pod, and there is no kubeconfig at {path}; set KUBECONFIG"
        )
    return await connect_kubeconfig(path, clock=clock, context=context)


async def connect_in_cluster(
    environ: Mapping[str, str], *, clock: Callable[[], float], account: Path = SERVICE_ACCOUNT
) -> ClientConnection:
    """As the service account of this pod. Raises `NotConnected`, for example where no token is mounted."""
    client_module, config_module = _official()

    async def load(configuration: "Configuration", refused: bool) -> None:
        try:
            config_module.incluster_config.InClusterConfigLoader(
                token_filename=str(account / "token"),
                cert_filename=str(account / "ca.crt"),
                try_refresh_token=False,
                environ=environ,
            ).load_and_set(configuration)
        except (config_module.ConfigException, OSError) as error:
            raise NotConnected(
                f"no service account in {account}: {error}; does the pod set `automountServiceAccountToken: false`?"
            ) from error
        _strip_token(configuration)

    configuration = client_module.Configuration()
    await load(configuration, refused=False)
    namespace = account / "namespace"
    return _connection(
        configuration, namespace=namespace.read_text().strip() if namespace.exists() else None, load=load, clock=clock
    )


async def connect_kubeconfig(path: Path, *, clock: Callable[[], float], context: str | None = None) -> ClientConnection:
    """As the user of a context of this file, of its current context if `context` is None. Raises `NotConnected`."""
    client_module, config_module = _official()
    chosen = choose_context(_document(path), path=path, context=context)
    loader: Any = None

    async def load(configuration: "Configuration", refused: bool) -> None:
        nonlocal loader
        if loader is not None and chosen.plugin and not refused:
            # Runs the plug-in if its answer has expired. An answer without an expiry holds until it is refused.
            if hasattr(loader, "exec_plugin_expiry"):
                await loader.load_from_exec_plugin()
                configuration.api_key["BearerToken"] = loader.token
            return
        try:
            loader = await config_module.load_kube_config(
                config_file=str(path), context=chosen.name, client_configuration=configuration, persist_config=False
            )
        # A TypeError is how the client says that a context has no user, a ValueError that a token is none.
        except (config_module.ConfigException, OSError, TypeError, ValueError, KeyError) as error:
            raise NotConnected(f"kubeconfig {path}, context {chosen.name}: {_without_items(error)}") from None
        if chosen.plugin and "BearerToken" not in configuration.api_key and not configuration.cert_file:
            raise NotConnected(f"kubeconfig {path}, context {chosen.name}: the exec plug-in gave no credentials")
        _strip_token(configuration)

    configuration = client_module.Configuration()
    await load(configuration, refused=False)
    return _connection(configuration, namespace=chosen.namespace, load=load, clock=clock)


def connect_url(url: str, *, clock: Callable[[], float]) -> ClientConnection:
    """Without credentials, for `kubectl proxy` and tests."""
    client_module, _ = _official()
    return _connection(client_module.Configuration(host=url), namespace=None, load=None, clock=clock)


def _connection(
    configuration: "Configuration",
    *,
    namespace: str | None,
    load: "Load | None",
    clock: Callable[[], float],
) -> ClientConnection:
    client_module, _ = _official()
    # Without `trust_env`, .netrc is not read for each request, and a proxy is what the kubeconfig says it is.
    configuration.client_session_kwargs = {"middlewares": (_once,), "trust_env": False}
    return ClientConnection(client_module.ApiClient(configuration), namespace=namespace, load=load, clock=clock)


class _Broken(aiohttp.ClientError):
    """The connection broke after the request was sent, or may have been."""


async def _once(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending again: a PUT that was done and whose answer was lost would then be a conflict."""
    try:
        return await send(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _Broken(str(error) or type(error).__name__) from error


def _official() -> tuple[Any, Any]:
    try:
        from kubernetes.aio import client, config
        from kubernetes.aio.config import incluster_config  # noqa: F401
    except ImportError as error:
        raise NotConnected(
            f"the Kubernetes client is not installed ({error}): pip install 'weighbridge[kubernetes]'"
        ) from error
    return client, config


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Of a kubeconfig: its name, its namespace, and whether its user's credentials come from an exec plug-in."""

    name: str
    namespace: str | None
    plugin: bool


def choose_context(document: Mapping[str, Any], *, path: Path, context: str | None) -> Context:
    """The context of this name, or the current one. Raises `NotConnected`, which names those that there are."""
    contexts = _by_name(document, "contexts", "context")
    name = context or document.get("current-context")
    if not name:
        raise NotConnected(f"kubeconfig {path} has no current-context; there are: {_names(contexts)}")
    if name not in contexts:
        raise NotConnected(f"kubeconfig {path} has no context {name}; there are: {_names(contexts)}")
    chosen = contexts[name]
    user = _by_name(document, "users", "user").get(str(chosen.get("user")), {})
    return Context(name=name, namespace=chosen.get("namespace"), plugin="exec" in user)


def _document(path: Path) -> Mapping[str, Any]:
    try:
        document = yaml.safe_load(path.read_text())
    except OSError as error:
        raise NotConnected(f"kubeconfig {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError):
        # The parser quotes the line, which may be a key.
        raise NotConnected(f"kubeconfig {path} is not YAML") from None
    if not isinstance(document, dict):
        raise NotConnected(f"kubeconfig {path} is not a mapping")
    return document


def _by_name(document: Mapping[str, Any], section: str, field: str) -> dict[str, dict[str, Any]]:
    entries = document.get(section) or []
    named = (entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("name"), str))
    return {entry["name"]: entry.get(field) or {} for entry in named}


def _names(contexts: Mapping[str, object]) -> str:
    return ", ".join(sorted(contexts)) or "none"


def _without_items(error: Exception) -> str:
    """The client names a place in a kubeconfig by the item's whole text, token included: cut it off."""
    return str(error).partition("{")[0].strip()[:200]


def _strip_token(configuration: "Configuration") -> None:
    """Token files may end with a line break, which no header may hold."""
    if "BearerToken" in configuration.api_key:
        configuration.api_key["BearerToken"] = configuration.api_key["BearerToken"].strip()
