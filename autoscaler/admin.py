"""The autoscaler's own port: `/metrics`, `/healthz`, `/readyz`. Starlette, in the autoscaler's process."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec
import uvicorn
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

Problems = Callable[[], Sequence[str]]
"""What is wrong now, in words; empty when nothing is."""


def build(*, metrics: Collector, unhealthy: Problems, unready: Problems) -> Starlette:
    """The application. `/healthz` and `/readyz` answer 503 with what is wrong, else 200."""

    async def show(_: Request) -> Response:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(metrics)
        return Response(generate_latest(registry), headers={"content-type": CONTENT_TYPE_LATEST})

    async def healthy(_: Request) -> Response:
        return _verdict(unhealthy())

    async def ready(_: Request) -> Response:
        return _verdict(unready())

    return Starlette(routes=[Route("/metrics", show), Route("/healthz", healthy), Route("/readyz", ready)])


async def serve(application: Starlette, stop_event: asyncio.Event, *, host: str, port: int) -> None:
    """Serve until `stop_event`. The caller has checked that the port can be bound."""
    server = _Server(
        uvicorn.Config(application, host=host, port=port, log_config=None, access_log=False, lifespan="off")
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve(), name="autoscaler port")
        await stop_event.wait()
        server.should_exit = True


def _verdict(problems: Sequence[str]) -> Response:
    body = {"status": "unavailable" if problems else "ok", "problems": list(problems)}
    return Response(msgspec.json.encode(body), status_code=503 if problems else 200, media_type="application/json")


class _Server(uvicorn.Server):
    """Signals belong to the process."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None of its own."""
        yield
