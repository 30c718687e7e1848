"""The process of `weighbridge dashboard`: one page over one Redis, until SIGTERM or SIGINT. Its composition root."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
import uvicorn

from backlog.accounts import Accounts
from backlog.connection import connect_redis
from backlog.records import PoolName
from backlog.store import Backlog
from dashboard.reader import Reader
from dashboard.server import build, is_loopback
from dashboard.settings import PoolFacts
from weighbridge.config_models import Config
from weighbridge.wiring import autoscaler_settings, kv_tokens

TIMEOUT_S = 1.0

_log = structlog.get_logger("dashboard")


def pool_facts(config: Config) -> tuple[PoolFacts, ...]:
    """What the page may know of the pools: neither addresses nor keys."""
    facts = []
    for name, pool in config.pools.items():
        static = tuple(replica.label for replica in pool.replicas.static or ())
        bounds = None if static else autoscaler_settings(name, pool, config.autoscaler)
        facts.append(
            PoolFacts(
                name=PoolName(name),
                models=tuple(pool.models),
                gpu=pool.gpu,
                gpus_per_replica=pool.tensor_parallel,
                kv_capacity_tokens=kv_tokens(pool),
                min_replicas=None if bounds is None else bounds.min_replicas,
                max_replicas=None if bounds is None else bounds.max_replicas,
                static_replicas=static,
                priced=pool.price_per_gpu_hour is not None,
            )
        )
    return tuple(facts)


async def run(
    pools: tuple[PoolFacts, ...], redis_url: str, prefix: str, clock: Callable[[], float], *, host: str, port: int
) -> bool:
    """Serve until SIGINT or SIGTERM. Returns whether it could listen; raises ValueError for a URL that is none."""
    connection = connect_redis(redis_url, timeout_s=TIMEOUT_S)
    try:
        reader = Reader(pools, Backlog(connection, prefix=prefix), Accounts(connection, prefix), clock)
        application = build(pools, reader.read, clock, host=host)
        config = uvicorn.Config(
            application,
            host=host,
            port=port,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=2,
        )
        server = _Server(config)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, server.stop)
        await server.serve()
        return server.started
    finally:
        await connection.close()


class _Server(uvicorn.Server):
    """Says where it listens, and returns where it cannot, instead of ending the process. Signals belong to `run`."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None of its own."""
        yield

    def stop(self) -> None:
        """End `serve`."""
        self.should_exit = True

    async def startup(self, sockets: None = None) -> None:  # type: ignore[override]
        try:
            await super().startup(sockets)
        except SystemExit:
            self.should_exit = True
            return
        if self.started:
            port = self.servers[0].sockets[0].getsockname()[1]
            _log.info("dashboard listens", host=self.config.host, port=port)
            if not is_loopback(self.config.host):
                _log.warning("the page is reachable from other machines and has no login", host=self.config.host)
