"""Events on the objects that are scaled, for `kubectl describe`. Losing one is not an error."""

import asyncio
import secrets
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from autoscaler.kube.api import KubeApi
from autoscaler.kube.errors import KubeError, NotFound
from autoscaler.kube.event_log import EventLog, EventWrite
from autoscaler.kube.names import FIELD_MANAGER, Json
from autoscaler.kube.news import NORMAL, EventReason

WRITE_LIMIT_S = 5.0
_log = structlog.get_logger("autoscaler")


class Events:
    """`record` never waits; `write_due` writes, while `leads`. `clock` tells the time of day."""

    def __init__(self, api: KubeApi, clock: Callable[[], float], *, leads: Callable[[], bool], instance: str) -> None:
        self._api = api
        self._clock = clock
        self._leads = leads
        self._instance = instance
        self._events = EventLog()
        self._failing = False

    def record(self, reference: Json, reason: EventReason, message: str) -> None:
        """Say this of an object: `apiVersion`, `kind`, `namespace`, `name` and, if known, `uid`."""
        self._events.add(reference, reason, message, self._clock())

    async def write_due(self) -> None:
        """Write what may be written now. What was recorded while this process does not lead is dropped."""
        while (write := self._events.next(self._clock())) is not None:
            if self._leads():
                await self._write(write)

    async def _write(self, write: EventWrite) -> None:
        try:
            async with asyncio.timeout(WRITE_LIMIT_S):
                await self._put(write)
        except TimeoutError:
            self._fail("no answer in time")
        except KubeError as error:
            self._fail(str(error))
        else:
            self._failing = False

    async def _put(self, write: EventWrite) -> None:
        folder = f"/api/v1/namespaces/{write.reference['namespace']}/events"
        if write.name is not None:
            change = {"count": write.count, "lastTimestamp": _time(write.last_at_s)}
            try:
                await self._api.patch(f"{folder}/{write.name}", change)
            except NotFound:
                self._events.gone(write)
            else:
                self._events.written(write, write.name)
                return
        _, reason, message = write.key
        name = f"{write.reference['name']}.{secrets.token_hex(8)}"
        body: Json = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": write.reference["namespace"]},
            "involvedObject": write.reference,
            "reason": reason.value,
            "message": message,
            "type": "Normal" if reason in NORMAL else "Warning",
            "count": write.count,
            "firstTimestamp": _time(write.first_at_s),
            "lastTimestamp": _time(write.last_at_s),
            "source": {"component": FIELD_MANAGER},
            "reportingComponent": FIELD_MANAGER,
            "reportingInstance": self._instance,
        }
        await self._api.create(folder, body)
        self._events.written(write, name)

    def _fail(self, cause: str) -> None:
        if not self._failing:
            self._failing = True
            _log.warning("events cannot be written", cause=cause)


def _time(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
