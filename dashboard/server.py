"""The page over HTTP: one document, one script, one style sheet, and their data as JSON. It changes nothing."""

from collections.abc import Awaitable, Callable, Sequence
from importlib.resources import files
from ipaddress import ip_address

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dashboard.page import Everything, page_from
from dashboard.settings import PoolFacts

FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
}
HEADERS = {
    # Only what is served here: no script from elsewhere, none in the document, no frame around it.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
LOOPBACK_NAMES = ["localhost", "127.0.0.1", "[::1]"]


def build(
    pools: Sequence[PoolFacts], read: Callable[[], Awaitable[Everything]], clock: Callable[[], float], *, host: str
) -> Starlette:
    """The application. On a loopback `host` only names of this machine are answered: a page of another site that
    makes its own name mean this machine reads nothing.
    """

    async def data(_: Request) -> Response:
        page = page_from(pools, await read(), clock())
        return Response(msgspec.json.encode(page), media_type="application/json", headers=HEADERS)

    async def healthy(_: Request) -> Response:
        return Response(b'{"status":"alive"}', media_type="application/json", headers=HEADERS)

    routes = [Route(path, _file(name, media_type)) for path, (name, media_type) in FILES.items()]
    routes += [Route("/data.json", data), Route("/healthz", healthy)]
    names = LOOPBACK_NAMES if is_loopback(host) else ["*"]
    return Starlette(routes=routes, middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=names)])


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _file(name: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    body = files("dashboard").joinpath("static", name).read_bytes()

    async def answer(_: Request) -> Response:
        return Response(body, headers={**HEADERS, "content-type": media_type})

    return answer
