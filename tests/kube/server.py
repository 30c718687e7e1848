"""The fake API server on a free loopback port: requests to the store, with faults, access rules and a log of calls."""

import asyncio
import random
import secrets
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import msgspec
import yaml
from aiohttp import web

from autoscaler.kube.api import KubeApi, Limits
from autoscaler.kube.connection import connect_url
from tests.kube.faults import Fault, Faults
from tests.kube.rbac import Access
from tests.kube.selector import named_by, predicate
from tests.kube.status import Refusal, bad_request, expired, fault, unauthorized
from tests.kube.store import Store
from tests.kube.stream import Stream, Streams
from tests.kube.target import Target, parse_path

Json = dict[str, Any]


@dataclass(slots=True, kw_only=True)
class Call:
    """One request and its answer. `status` is None while it runs, and if it was never answered."""

    verb: str
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str
    at_s: float
    query: Mapping[str, str]
    user_agent: str
    body: Json | None = None
    status: int | None = None

    @property
    def what(self) -> tuple[str, str]:
        """Verb and resource, with the subresource: `("patch", "deployments/scale")`."""
        return self.verb, f"{self.resource}/{self.subresource}" if self.subresource else self.resource


@dataclass(slots=True)
class Continued:
    """The rest of a list of which pages were read, as it was then."""

    version: int
    items: list[Json] = field(default_factory=list)


class FakeServer:
    """Use as an async context manager. `clock` is wall-clock; `token` is required of every request if given."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        token: str | None = None,
        access: Access | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.store = Store(clock)
        self.faults = Faults()
        self.streams = Streams(self.store)
        self.calls: list[Call] = []
        self.token = token
        self.access = access
        self.port = 0
        self._clock = clock
        self._tls = tls
        self._continued: dict[str, Continued] = {}
        self._apis: list[KubeApi] = []
        self._runner: web.AppRunner | None = None
        self._site: web.SockSite | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._serve)
        # A client that has gone ends its request here, as with a real server.
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.0, handler_cancellation=True)
        await self._runner.setup()
        await self.come_up()
        return self

    async def __aexit__(self, *_: object) -> None:
        for api in self._apis:
            await api.close()
        self.faults.clear()
        self.streams.cut()
        assert self._runner is not None
        await self._runner.cleanup()

    def api(self, limits: Limits | None = None, *, seed: int = 0) -> KubeApi:
        """A client without credentials; closed with the server."""
        connection = connect_url(self.url, clock=time.monotonic)
        api = KubeApi(connection, clock=time.monotonic, rng=random.Random(seed), limits=limits)
        self._apis.append(api)
        return api

    def write_kubeconfig(self, path: Path, *, namespace: str = "default", **user: Any) -> Path:
        """A kubeconfig for this server with these credentials."""
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "me", "namespace": namespace}}],
            "users": [{"name": "me", "user": user}],
        }
        path.write_text(yaml.safe_dump(document))
        return path

    async def go_down(self) -> None:
        """Refuse connections and break those that there are, as a server that was killed."""
        assert self._site is not None
        await self._site.stop()
        self._site = None
        self.streams.cut()
        assert self._runner is not None
        assert self._runner.server is not None
        for connection in list(self._runner.server.connections):
            if connection.transport is not None:
                connection.transport.abort()

    async def come_up(self) -> None:
        """Listen, on the same port as before."""
        assert self._runner is not None
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        self._site = web.SockSite(self._runner, listener, ssl_context=self._tls)
        await self._site.start()

    def compact(self) -> None:
        """Forget the history, and the rest of lists of which pages were read."""
        self.store.compact()
        self._continued.clear()

    def made(self, verb: str, resource: str) -> list[Call]:
        """The calls of this verb on this resource (with its subresource: `deployments/scale`), the oldest first."""
        return [call for call in self.calls if call.what == (verb, resource)]

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/version":
            return web.json_response({"major": "1", "minor": "37", "gitVersion": "v1.37.0"})
        if request.path in ("/healthz", "/livez", "/readyz"):
            return web.Response(text="ok")
        call: Call | None = None
        try:
            target = parse_path(request.path)
            verb = _verb(request, target)
            call = self._log(request, verb, target)
            response = await self._answer(request, verb, target, call)
        except Refusal as refusal:
            response = _json(refusal.body(), status=refusal.code, headers=refusal.headers())
        if call is not None:
            call.status = response.status
        return response

    def _log(self, request: web.Request, verb: str, target: Target) -> Call:
        call = Call(
            verb=verb,
            group=target.group,
            resource=target.resource,
            subresource=target.subresource,
            namespace=target.namespace,
            name=target.name,
            at_s=self._clock(),
            query=dict(request.query),
            user_agent=request.headers.get("User-Agent", ""),
        )
        self.calls.append(call)
        return call

    async def _answer(self, request: web.Request, verb: str, target: Target, call: Call) -> web.StreamResponse:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if self.token is not None and (scheme.lower(), token) != ("bearer", self.token):
            raise unauthorized()
        hit = self.faults.hit(verb, target)
        if hit is not None and not hit.late:
            await _suffer(hit, request)
        if self.access is not None:
            self.access.check(verb, target, target.name or named_by(request.query.get("fieldSelector", "")) or "")
        if verb == "watch":
            return await self._watch(request, target, call)
        body, status = await self._do(request, verb, target, call)
        if hit is not None and hit.late:
            await _suffer(hit, request)
        return _json(body, status=status)

    async def _do(self, request: web.Request, verb: str, target: Target, call: Call) -> tuple[Json, int]:
        if verb == "list":
            return self._list(request, target), 200
        if verb == "get":
            return self.store.read(target), 200
        call.body = await _body(request)
        manager = request.query.get("fieldManager") or call.user_agent.split("/")[0].split(" ")[0] or "unknown"
        match verb:
            case "create":
                return self.store.create(target, call.body, manager=manager), 201
            case "update":
                return self.store.replace(target, call.body, manager=manager), 200
            case "patch":
                if request.content_type != "application/merge-patch+json":
                    raise Refusal(
                        415,
                        "UnsupportedMediaType",
                        "the body of the request was in an unknown format: merge patches only",
                    )
                return self.store.patch(target, call.body, manager=manager), 200
        wanted = call.body.get("preconditions") or {}
        return self.store.delete(target, uid=wanted.get("uid"), version=wanted.get("resourceVersion")), 200

    def _list(self, request: web.Request, target: Target) -> Json:
        query = request.query
        token = query.get("continue", "")
        if token:
            try:
                found = self._continued.pop(token)
            except KeyError:
                raise expired() from None
        else:
            fits = predicate(query.get("labelSelector", ""), query.get("fieldSelector", ""))
            found = Continued(version=self.store.version, items=self.store.matching(target, fits))
        limit = int(query.get("limit", "0")) or len(found.items)
        page, rest = found.items[:limit], found.items[limit:]
        metadata: Json = {"resourceVersion": str(found.version)}
        if rest:
            metadata |= {"continue": secrets.token_hex(8), "remainingItemCount": len(rest)}
            self._continued[metadata["continue"]] = Continued(version=found.version, items=rest)
        kind = self.store.kinds.get(target.resource, target.resource.title())
        # The items of a list carry no kind of their own.
        items = [{key: value for key, value in item.items() if key not in ("kind", "apiVersion")} for item in page]
        return {"kind": f"{kind}List", "apiVersion": target.api_version, "metadata": metadata, "items": items}

    async def _watch(self, request: web.Request, target: Target, call: Call) -> web.StreamResponse:
        query = request.query
        stream = Stream(
            target=target,
            fits=predicate(query.get("labelSelector", ""), query.get("fieldSelector", "")),
            bookmarks=query.get("allowWatchBookmarks") in ("1", "true"),
            timeout_s=float(query.get("timeoutSeconds", "1800")),
        )
        start = query.get("resourceVersion", "")
        if not start.isdigit() and start:
            raise bad_request(f"invalid resource version: {start}")
        call.status = 200
        return await self.streams.serve(request, stream, int(start or "0"))


def _verb(request: web.Request, target: Target) -> str:
    match request.method:
        case "GET" if request.query.get("watch") in ("1", "true"):
            return "watch"
        case "GET":
            return "get" if target.name else "list"
        case "POST" if not target.name:
            return "create"
        case "PUT" if target.name:
            return "update"
        case "PATCH" if target.name:
            return "patch"
        case "DELETE" if target.name:
            return "delete"
    raise Refusal(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


async def _suffer(hit: Fault, request: web.Request) -> None:
    """What a fault does to a request; returns if it only delays."""
    if hit.delay_s:
        await asyncio.sleep(hit.delay_s)
    if hit.hang:
        await hit.cleared.wait()
    if hit.reset:
        assert request.transport is not None
        request.transport.abort()
        raise fault(500)
    if hit.status is not None:
        raise fault(hit.status, hit.retry_after_s)


async def _body(request: web.Request) -> Json:
    raw = await request.read()
    if not raw:
        return {}
    try:
        body = msgspec.json.decode(raw)
    except msgspec.DecodeError as error:
        raise bad_request(f"the body of the request is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise bad_request("the body of the request is not an object")
    return body


def _json(body: Json, *, status: int, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=status, headers=headers, content_type="application/json")
