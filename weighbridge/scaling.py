"""The autoscaler process: one loop per pool on one Redis, until SIGTERM or SIGINT. Its composition root."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import structlog

from autoscaler import admin, health
from autoscaler.advisory import AdvisoryScaler
from autoscaler.kube.connection import NotConnected
from autoscaler.kube.reporter import ReportedPool, Reporter
from autoscaler.kube.scaler import KubernetesScaler
from autoscaler.lead import Alone, Lead
from autoscaler.loop import run_autoscaler
from autoscaler.metrics import AutoscalerMetrics
from autoscaler.process import ProcessScaler
from autoscaler.recorder import Recorder
from autoscaler.scaler import Scaler
from autoscaler.stats import PoolStats
from backlog.store import Backlog, connect
from gateway.supervisor import PortUnavailable, check_port
from weighbridge.config_controller import ControllerSection, KedaSection
from weighbridge.scaling_cluster import OpenCluster, identity_of, open_cluster
from weighbridge.wiring import ScaledPool

_log = structlog.get_logger("autoscaler")


class ExtraMissing(Exception):
    """A package that the configuration needs is not installed. Says how to."""


def run(
    pools: Sequence[ScaledPool],
    *,
    redis_url: str,
    redis_prefix: str,
    controller: ControllerSection,
    run_directory: Path | None,
    record_directory: Path | None = None,
) -> int:
    """Scale `pools` until a signal, then stop the replicas that were started.

    `run_directory`: where replicas' output goes, a file each; `None` discards it. `record_directory`: where decisions
    are recorded, a file per pool. Returns the exit status; 2 when a port cannot be bound, a package is missing or there
    is no way to an API server.
    """
    process = _Process(
        pools,
        controller,
        run_directory=run_directory,
        record_directory=record_directory,
        clock=time.time,  # noqa: TID251 (the composition root)
    )
    try:
        check_port(controller.host, controller.port)
        if controller.keda is not None:
            check_port(controller.keda.host, controller.keda.port)
            check_keda()
        asyncio.run(process.run(redis_url, redis_prefix, os.environ))  # noqa: TID251 (the composition root)
    except (PortUnavailable, NotConnected, ExtraMissing) as error:
        _log.error("cannot start", cause=str(error))
        return 2
    return 0


def scaler_of(
    pool: ScaledPool,
    clock: Callable[[], float],
    run_directory: Path | None,
    *,
    cluster: OpenCluster | None = None,
    reporter: Reporter | None = None,
) -> Scaler:
    """The scaler that fits a pool's replicas."""
    if pool.targets:
        if cluster is None or reporter is None:
            raise ValueError(f"pool {pool.settings.pool} is in Kubernetes, and no cluster is open")
        return KubernetesScaler(
            pool.targets,
            cluster.cluster,
            pool=pool.settings.pool,
            writes=pool.writes,
            drain_deadline_s=pool.settings.drain_deadline_s,
            tell=reporter.tell,
            ratio_of=pool.ratio_of,
        )
    if pool.command is None:
        return AdvisoryScaler(replicas=len(pool.static_urls))
    return ProcessScaler(
        pool.command,
        pool=pool.settings.pool,
        clock=clock,
        health_path=pool.health_path,
        run_directory=run_directory,
        drain_deadline_s=pool.settings.drain_deadline_s,
        start_deadline_s=pool.start_deadline_s,
    )


def check_keda() -> None:
    """Raises `ExtraMissing`."""
    try:
        import autoscaler.keda.server  # noqa: F401
    except ImportError as error:
        raise ExtraMissing(f"controller.keda needs gRPC ({error}): pip install 'weighbridge[keda]'") from error


async def answer_keda(
    pools: Sequence[ScaledPool], backlog: Backlog, section: KedaSection, stop_event: asyncio.Event
) -> None:
    """Answer KEDA until `stop_event`, whether this process leads or not."""
    from autoscaler.keda.answer import decision_limit_s
    from autoscaler.keda.server import serve

    limits_s = {pool.settings.pool: decision_limit_s(pool.settings) for pool in pools}
    await serve(backlog, limits_s, stop_event, host=section.host, port=section.port)


class _Process:
    """What runs in it, and the order of its end: loops, then the lead, then the connections."""

    def __init__(
        self,
        pools: Sequence[ScaledPool],
        controller: ControllerSection,
        *,
        run_directory: Path | None,
        record_directory: Path | None,
        clock: Callable[[], float],
    ) -> None:
        self._pools = pools
        self._controller = controller
        self._run_directory = run_directory
        self._record_directory = record_directory
        self._clock = clock
        self._stats = [PoolStats(pool=pool.settings.pool) for pool in pools]

    async def run(self, redis_url: str, redis_prefix: str, environ: Mapping[str, str]) -> None:
        """Raises `NotConnected`."""
        stop_event, last_write_done = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop_event.set)
        async with AsyncExitStack() as stack:
            cluster: OpenCluster | None = None
            if any(pool.targets for pool in self._pools):
                cluster = await open_cluster(self._controller, wall=self._clock, environ=environ)
                stack.push_async_callback(cluster.cluster.api.close)
            backlog = connect(redis_url, prefix=redis_prefix)
            stack.push_async_callback(_close, backlog)
            lead = Alone(identity_of(self._controller)) if cluster is None else cluster.election
            reporter = None if cluster is None else self._reporter(cluster)
            scalers = [
                scaler_of(pool, self._clock, self._run_directory, cluster=cluster, reporter=reporter)
                for pool in self._pools
            ]
            _log.info("autoscaler started", pools=[stats.pool for stats in self._stats], identity=lead.identity)
            async with asyncio.TaskGroup() as around:
                if cluster is None or reporter is None:
                    _log.info("no lease is needed: no pool is in Kubernetes")
                else:
                    around.create_task(cluster.cluster.run(last_write_done), name="cluster")
                    around.create_task(cluster.election.run(last_write_done), name="election")
                    around.create_task(reporter.run(stop_event), name="reporter")
                around.create_task(self._serve(lead, cluster, last_write_done), name="autoscaler port")
                if (keda := self._controller.keda) is not None:
                    around.create_task(answer_keda(self._pools, backlog, keda, last_write_done), name="keda")
                try:
                    await self._scale(scalers, backlog, lead, stop_event)
                finally:
                    last_write_done.set()
        _log.info("autoscaler stopped")

    async def _scale(self, scalers: Sequence[Scaler], backlog: Backlog, lead: Lead, stop_event: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            for pool, stats, scaler in zip(self._pools, self._stats, scalers, strict=True):
                recorder = None if self._record_directory is None else Recorder(self._record_directory, pool.settings)
                group.create_task(
                    run_autoscaler(
                        pool.settings,
                        backlog,
                        self._clock,
                        stop_event,
                        scaler=scaler,
                        leads=lead.leads,
                        stats=stats,
                        recorder=recorder,
                    ),
                    name=f"autoscaler of {stats.pool}",
                )

    def _reporter(self, cluster: OpenCluster) -> Reporter:
        pools = [
            ReportedPool(stats=stats, targets=pool.targets, writes=pool.writes)
            for pool, stats in zip(self._pools, self._stats, strict=True)
        ]
        return Reporter(
            pools,
            events=cluster.events,
            status=cluster.status,
            leads=cluster.election.leads,
            rivals=cluster.cluster.rivals,
            uid_of=cluster.cluster.uid_of,
        )

    async def _serve(self, lead: Lead, cluster: OpenCluster | None, stop_event: asyncio.Event) -> None:
        timer = asyncio.get_running_loop().time
        started_at_s = timer()
        application = admin.build(
            metrics=AutoscalerMetrics(
                self._stats,
                lead=lead,
                calls={} if cluster is None else cluster.calls,
                watch_ages_s=lambda: {} if cluster is None else cluster.watch_ages_s,
                now=self._clock,
            ),
            unhealthy=lambda: health.unhealthy(self._stats, started_at_s=started_at_s, now_s=timer()),
            unready=lambda: health.unready(self._stats, synced={} if cluster is None else cluster.synced),
        )
        await admin.serve(application, stop_event, host=self._controller.host, port=self._controller.port)


async def _close(backlog: Backlog) -> None:
    with suppress(OSError):
        await backlog.close()
