"""The admin port: `/metrics`, `/status`, `/drain`. Starlette, in the supervisor, away from the data plane."""

from collections.abc import Awaitable, Callable, Sequence

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backlog.records import DecisionRecord, PoolView
from backlog.store import Backlog, BacklogUnavailable
from estimator.price import Price
from gateway.metrics import Snapshots
from gateway.settings import PoolSettings
from gateway.snapshot import WorkerState
from gateway.status import status

MOST_DECISIONS = 200


def build(
    *,
    pools: Sequence[PoolSettings],
    prices: dict[str, Price],
    backlog: Backlog,
    snapshots: Callable[[], Awaitable[list[WorkerState]]],
    drain: Callable[[], Awaitable[None]],
) -> Starlette:
    """The admin application over a supervisor's workers."""

    async def metrics(_: Request) -> Response:
        views, _error = await _views(backlog, pools)
        registry = CollectorRegistry(auto_describe=False)
        registry.register(Snapshots(await snapshots(), views.values()))
        return Response(generate_latest(registry), headers={"content-type": CONTENT_TYPE_LATEST})

    async def show(_: Request) -> Response:
        views, error = await _views(backlog, pools)
        decisions: dict[str, list[DecisionRecord]] = {}
        for pool in pools if error is None else ():
            try:
                decisions[pool.name] = await backlog.decisions(pool.name, MOST_DECISIONS)
            except BacklogUnavailable as gone:
                error = gone.cause
                break
        page = status(await snapshots(), pools, prices, views, decisions, error)
        return Response(msgspec.json.encode(page), media_type="application/json")

    async def start_drain(_: Request) -> Response:
        await drain()
        return Response(b'{"status":"draining"}', status_code=202, media_type="application/json")

    async def live(_: Request) -> Response:
        return Response(b'{"status":"alive"}', media_type="application/json")

    return Starlette(
        routes=[
            Route("/metrics", metrics),
            Route("/status", show),
            Route("/drain", start_drain, methods=["POST"]),
            Route("/health/liveliness", live),
        ]
    )


async def _views(backlog: Backlog, pools: Sequence[PoolSettings]) -> tuple[dict[str, PoolView], str | None]:
    """The views that Redis gave, and why it gave no more."""
    views: dict[str, PoolView] = {}
    for pool in pools:
        try:
            views[pool.name] = await backlog.view(pool.name)
        except BacklogUnavailable as error:
            return views, error.cause
    return views, None
