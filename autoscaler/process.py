"""Local replicas as child processes: starts, readiness, crashes, drains, stops."""

import asyncio
import re
import shlex
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median

import aiohttp
import structlog

from autoscaler import drain
from autoscaler.crash import Crashes, after_crash
from autoscaler.observation import Fleet
from autoscaler.replica import LocalReplica, free_port
from autoscaler.work_left import work_left
from backlog import child
from backlog.records import PoolName, PoolView, ReplicaName, ReplicaRecord, ReplicaState

KEPT_LOGS = 20
KEPT_COLD_STARTS = 5
NO_WORK = (0.0, 0)
_log = structlog.get_logger("autoscaler")


class ProcessScaler:
    """Runs replicas on this machine from a command with `{port}` and optionally `{name}` in it.

    Up: draining replicas are revived before new ones start. Down: starting replicas are cancelled, newest first,
    before ready ones are drained, least remaining work first. A draining replica stops when no worker has requests on
    it (see `autoscaler.drain`) or at its deadline. A replica that exits on its own is forgotten and replaced by the
    next decision; replicas that keep dying young are started ever more rarely.
    """

    advisory = False
    withdraws = True
    known = True

    def __init__(
        self,
        command: str | Sequence[str],
        *,
        pool: PoolName,
        clock: Callable[[], float],
        health_path: str = "/health",
        host: str = "127.0.0.1",
        run_directory: Path | None = None,
        env: Mapping[str, str] | None = None,
        drain_deadline_s: float = 120.0,
        stop_grace_s: float = 30.0,
        start_deadline_s: float = 900.0,
    ) -> None:
        """`run_directory`: where replicas' output goes, one file each, the newest few kept; `None` discards it.

        Raises ValueError for a command without `{port}`.
        """
        self._command = tuple(shlex.split(command) if isinstance(command, str) else command)
        if not any("{port}" in part for part in self._command):
            raise ValueError(f"the replica command of pool {pool} must contain {{port}}: {self._command}")
        self._pool = pool
        self._clock = clock
        self._health_path = health_path
        self._host = host
        self._run_directory = run_directory
        self._env = env
        self._drain_deadline_s = drain_deadline_s
        self._stop_grace_s = stop_grace_s
        self._start_deadline_s = start_deadline_s
        self._desired = 0
        self._started = 0
        self._replicas: list[LocalReplica] = []
        self._timed: set[ReplicaName] = set()
        self._stops: set[asyncio.Task[None]] = set()
        self._crashes = Crashes()
        self._cold_starts_s: deque[float] = deque(maxlen=KEPT_COLD_STARTS)
        self._logs: deque[Path] = deque()
        self._http: aiohttp.ClientSession | None = None

    @property
    def cold_start_s(self) -> float | None:
        return median(self._cold_starts_s) if self._cold_starts_s else None

    @property
    def pids(self) -> tuple[int, ...]:
        """Of the replicas in the list."""
        return tuple(replica.pid for replica in self._replicas)

    def fleet(self) -> Fleet:
        return Fleet(
            desired=self._desired,
            ready=len(self._in(ReplicaState.READY)),
            pending=len(self._in(ReplicaState.STARTING)),
            draining=len(self._in(ReplicaState.DRAINING)),
        )

    def records(self) -> tuple[ReplicaRecord, ...]:
        return tuple(replica.record for replica in self._replicas)

    async def advance(self, view: PoolView | None) -> None:
        now_s = self._clock()
        for replica in tuple(self._replicas):
            record = replica.record
            if replica.exit_code is not None:
                self._lose(replica, f"exited with {replica.exit_code}", now_s)
            elif record.state is ReplicaState.STARTING and now_s - record.created_at_s > self._start_deadline_s:
                self._lose(replica, f"not ready after {self._start_deadline_s:.0f} s", now_s)
            elif record.ready_at_s is not None and record.name not in self._timed:
                self._welcome(record, record.ready_at_s)
            elif replica.drain is not None:
                replica.drain = drain.advance(replica.drain, record.name, view, now_s)
                reason = drain.finish_reason(replica.drain, deadline_s=self._drain_deadline_s, now_s=now_s)
                if reason is not None and view is not None:
                    self._remove(replica, reason)

    def plan(self, desired: int) -> str | None:
        return None

    async def apply(self, desired: int, view: PoolView | None) -> None:
        self._desired = desired
        now_s = self._clock()
        missing = desired - len(self._in(ReplicaState.READY)) - len(self._in(ReplicaState.STARTING))
        if missing > 0:
            draining = sorted(self._in(ReplicaState.DRAINING), key=_drain_began_at_s, reverse=True)
            for replica in draining[:missing]:
                replica.revive()
                _log.info("replica revived", pool=self._pool, replica=replica.record.name)
            for _ in range(missing - len(draining)):
                if not self._crashes.may_start(now_s):
                    break
                await self._start(now_s)
        elif missing < 0:
            self._shrink(-missing, view, now_s)

    async def stop(self) -> None:
        """End all children, at most about the stop grace."""
        self._desired = 0
        for replica in tuple(self._replicas):
            self._remove(replica, "the scaler stops")
        if self._stops:
            await asyncio.gather(*self._stops)
        if self._http is not None:
            await self._http.close()
            self._http = None

    def _shrink(self, surplus: int, view: PoolView | None, now_s: float) -> None:
        starting = self._in(ReplicaState.STARTING)[::-1]
        for replica in starting[:surplus]:
            self._remove(replica, "no longer needed before it was ready")
        surplus -= len(starting[:surplus])
        if surplus == 0 or view is None:
            return
        newest_first = self._in(ReplicaState.READY)[::-1]
        left = work_left(view)
        for replica in sorted(newest_first, key=lambda replica: left.get(replica.record.name, NO_WORK))[:surplus]:
            replica.mark_draining(drain.begin(view, now_s))
            gpu_s, in_flight = left.get(replica.record.name, NO_WORK)
            _log.info(
                "replica draining",
                pool=self._pool,
                replica=replica.record.name,
                remaining_gpu_s=round(gpu_s, 3),
                in_flight=in_flight,
            )

    async def _start(self, now_s: float) -> None:
        self._started += 1
        taken = {int(replica.record.url.rsplit(":", 1)[1]) for replica in self._replicas}
        port = free_port(self._host, taken)
        name = ReplicaName(f"{self._pool}-{self._started}-{port}")
        argv = [part.replace("{port}", str(port)).replace("{name}", name) for part in self._command]
        url = f"http://{self._host}:{port}"
        log = self._open_log(name)
        output = subprocess.DEVNULL if log is None else log.open("wb")
        try:
            process = await child.spawn(argv, env=self._env, stdout=output, stderr=output)
        except OSError as error:
            self._crashes = after_crash(self._crashes, lived_s=0.0, now_s=now_s)
            _log.error("replica command failed", pool=self._pool, command=argv[0], error=str(error))
            return
        finally:
            if not isinstance(output, int):
                output.close()
        record = ReplicaRecord(name=name, url=url, state=ReplicaState.STARTING, created_at_s=now_s)
        replica = LocalReplica(record, process, log)
        self._replicas.append(replica)
        if self._http is None:
            self._http = aiohttp.ClientSession()
        replica.watch(self._http, url + self._health_path, self._clock)
        _log.info("replica starting", pool=self._pool, replica=name, url=url, pid=process.pid)

    def _welcome(self, record: ReplicaRecord, ready_at_s: float) -> None:
        """Note the cold start of a replica that has become ready."""
        self._timed.add(record.name)
        cold_start_s = max(0.0, ready_at_s - record.created_at_s)
        self._cold_starts_s.append(cold_start_s)
        _log.info("replica ready", pool=self._pool, replica=record.name, cold_start_s=round(cold_start_s, 3))

    def _lose(self, replica: LocalReplica, reason: str, now_s: float) -> None:
        lived_s = now_s - replica.record.created_at_s
        self._crashes = after_crash(self._crashes, lived_s=lived_s, now_s=now_s)
        _log.warning(
            "replica lost",
            pool=self._pool,
            replica=replica.record.name,
            reason=reason,
            log=None if replica.log is None else str(replica.log),
            retry_in_s=round(max(0.0, self._crashes.retry_at_s - now_s), 3),
        )
        self._remove(replica, reason)

    def _remove(self, replica: LocalReplica, reason: str) -> None:
        """Take it off the list and end its process without holding up the caller."""
        self._replicas.remove(replica)
        self._timed.discard(replica.record.name)
        _log.info("replica stopping", pool=self._pool, replica=replica.record.name, reason=reason)
        stop = asyncio.create_task(replica.stop(grace_s=self._stop_grace_s), name=f"stop of {replica.record.name}")
        self._stops.add(stop)
        stop.add_done_callback(self._stops.discard)

    def _open_log(self, name: ReplicaName) -> Path | None:
        if self._run_directory is None:
            return None
        self._run_directory.mkdir(parents=True, exist_ok=True)
        log = self._run_directory / (re.sub(r"[^A-Za-z0-9._-]", "-", name) + ".log")
        self._logs.append(log)
        while len(self._logs) > KEPT_LOGS:
            with suppress(FileNotFoundError):
                self._logs.popleft().unlink()
        return log

    def _in(self, state: ReplicaState) -> list[LocalReplica]:
        return [replica for replica in self._replicas if replica.record.state is state]


def _drain_began_at_s(replica: LocalReplica) -> float:
    return 0.0 if replica.drain is None else replica.drain.since_s
