"""The ConfigMap `weighbridge-status`: what each pool's autoscaler last decided and why, for `kubectl`."""

import json
from collections.abc import Callable, Mapping

import structlog

from autoscaler.kube.api import KubeApi
from autoscaler.kube.errors import KubeError, NotFound
from autoscaler.kube.names import FIELD_MANAGER, Json
from autoscaler.kube.news import Moment

NAME = "weighbridge-status"
EVERY_S = 10.0
MOST_BYTES = 900_000
"""Of all pools together; a ConfigMap holds 1 MiB."""
TEXT_CHARACTERS = 500
UNDECIDED = '{"headline": "nothing has been decided"}'
"""A pool that is not decided on, for example as an object of it does not exist."""
_log = structlog.get_logger("autoscaler")


def status_of(moment: Moment) -> str:
    """One pool as JSON. It changes only when something of it does: no age, no time of the decision."""
    fleet, record, changed = moment.fleet, moment.record, moment.changed
    override = fleet.override
    values: Json = {
        "headline": record.headline[:TEXT_CHARACTERS],
        "mode": record.mode,
        "desired": record.desired,
        "ready": fleet.ready,
        "pending": fleet.pending,
        "draining": fleet.draining,
        "unschedulable": fleet.unschedulable,
        "paused": fleet.paused and fleet.paused[:TEXT_CHARACTERS],
        "override": override and {"by": override.by, "replicas": override.replicas, "at_s": round(override.at_s)},
        "last_change": changed
        and {"at_s": round(changed.at_s), "desired": changed.desired, "reason": changed.headline[:TEXT_CHARACTERS]},
    }
    return json.dumps(values, ensure_ascii=False)


def bounded(data: Mapping[str, str], most_bytes: int = MOST_BYTES) -> dict[str, str]:
    """As many pools as fit, by name."""
    kept: dict[str, str] = {}
    size = 0
    for name in sorted(data):
        size += len(name.encode()) + len(data[name].encode())
        if size > most_bytes:
            break
        kept[name] = data[name]
    return kept


class StatusMap:
    """Written when something has changed and at most every 10 s. `clock` is monotonic. Failing is not an error."""

    def __init__(self, api: KubeApi, *, namespace: str, clock: Callable[[], float], leads: Callable[[], bool]) -> None:
        self._api = api
        self._folder = f"/api/v1/namespaces/{namespace}/configmaps"
        self._clock = clock
        self._leads = leads
        self._shown: Mapping[str, str] | None = None
        self._tried_at_s: float | None = None
        self._failing = False

    async def show(self, pools: Mapping[str, str]) -> None:
        """Make the ConfigMap say this of each pool, if it is time to."""
        now_s = self._clock()
        data = bounded(pools)
        too_soon = self._tried_at_s is not None and now_s - self._tried_at_s < EVERY_S
        if data == self._shown or too_soon or not self._leads():
            return
        self._tried_at_s = now_s
        try:
            await self._put(data)
        except KubeError as error:
            if not self._failing:
                _log.warning("status cannot be written", cause=str(error))
            self._failing = True
        else:
            self._failing = False

    def forget(self) -> None:
        """Another process may have written meanwhile."""
        self._shown = None

    async def _put(self, data: dict[str, str]) -> None:
        path = f"{self._folder}/{NAME}"
        try:
            if self._shown is None:
                found = await self._api.get(path)
                self._shown = dict(found.get("data") or {})
            # Of what is not listed any more, a merge patch has to say so.
            change = {**dict.fromkeys(self._shown), **data}
            if data != self._shown and self._leads():
                await self._api.patch(path, {"data": change})
        except NotFound:
            if not self._leads():
                return
            metadata = {"name": NAME, "labels": {"app.kubernetes.io/managed-by": FIELD_MANAGER}}
            await self._api.create(
                self._folder, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
            )
        self._shown = data
