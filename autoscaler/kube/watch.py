"""One kind of object of an API server, mirrored here: a list, then a watch from it, as long as the process lives."""

import asyncio
import random
from collections.abc import Callable, Mapping
from contextlib import aclosing

import structlog

from autoscaler.kube.api import KubeApi, Trim
from autoscaler.kube.errors import Gone, KubeError
from autoscaler.kube.mirror import Change, Mirror
from autoscaler.kube.names import Json

log = structlog.get_logger(__name__)

OnChange = Callable[[str, Json | None, Json | None], None]


class Watch:
    """`objects` by `namespace/name` (cluster-wide ones by name) of the collection `path`, as the selectors choose.

    `on_change(key, old, new)` is called after each change, also for what a gap has hidden; None stands for no object.
    It must not block. `trim` is applied to each object as it comes, and must leave `metadata.name`, `namespace` and
    `resourceVersion`. `clock` is monotonic, in seconds. The server
    is asked to end a watch after about `timeout_s`, and waits between failures grow from `first_backoff_s` to
    `longest_backoff_s`.
    """

    def __init__(
        self,
        api: KubeApi,
        path: str,
        *,
        labels: str = "",
        fields: str = "",
        clock: Callable[[], float],
        name: str,
        on_change: OnChange | None = None,
        trim: Trim | None = None,
        rng: random.Random | None = None,
        timeout_s: float = 300.0,
        first_backoff_s: float = 0.2,
        longest_backoff_s: float = 30.0,
    ) -> None:
        self.name = name
        self.current_at_s: float | None = None
        """When the server last said anything about these objects, "nothing has changed" included; None before."""
        self._api = api
        self._path = path
        self._labels = labels
        self._fields = fields
        self._clock = clock
        self._on_change = on_change
        self._trim = trim
        self._rng = rng or random.Random()
        self._timeout_s = timeout_s
        self._first_backoff_s = first_backoff_s
        self._longest_backoff_s = longest_backoff_s
        self._mirror = Mirror()
        self._synced = False
        self._failures = 0
        self._failing_since_s: float | None = None

    @property
    def objects(self) -> Mapping[str, Json]:
        """The latest known, however old (`current_at_s`). They are not to be changed."""
        return self._mirror.objects

    @property
    def synced(self) -> bool:
        """Whether there was ever a whole list: before that, no object does not mean that there is none."""
        return self._synced

    async def run(self, stop_event: asyncio.Event) -> None:
        """Mirror until `stop_event` is set. Failures of the server are waited out."""
        following = asyncio.create_task(self._follow_for_ever(), name=f"watch {self.name}")
        stopping = asyncio.create_task(stop_event.wait(), name=f"watch {self.name}: stop")
        try:
            await asyncio.wait({following, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                await following
        finally:
            following.cancel()
            stopping.cancel()
            await asyncio.gather(following, stopping, return_exceptions=True)

    async def _follow_for_ever(self) -> None:
        while True:
            wait_s = 0.0
            try:
                if self._mirror.version is None:
                    await self._list()
                await self._stream(self._mirror.version or "")
            except Gone as error:
                self._mirror.forget_version()
                wait_s = self._wait_after(error)
            except KubeError as error:
                wait_s = self._wait_after(error)
            except Exception:
                log.exception("watch failed", watch=self.name)
                # Whatever is half applied is made whole by a list.
                self._mirror.forget_version()
                self._failures += 1
                wait_s = self._longest_backoff_s
            # A server that ends its streams at once is not asked without a pause.
            await asyncio.sleep(max(wait_s, self._first_backoff_s * self._rng.uniform(0.5, 1.0)))

    async def _list(self) -> None:
        listing = await self._api.list(self._path, labels=self._labels, fields=self._fields, trim=self._trim)
        changes = list(self._mirror.replace(listing.items, listing.resource_version))
        self._synced = True
        self._heard()
        for change in changes:
            self._report(change)

    async def _stream(self, version: str) -> None:
        """Apply events until the server ends the watch in good order."""
        timeout_s = self._timeout_s * self._rng.uniform(0.9, 1.1)
        watch = self._api.watch(
            self._path,
            resource_version=version,
            labels=self._labels,
            fields=self._fields,
            trim=self._trim,
            timeout_s=timeout_s,
            heard=self._heard,
        )
        started_s = self._clock()
        try:
            async with aclosing(watch) as events:
                async for event in events:
                    self._failures = 0
                    change = self._mirror.apply(event.kind, event.object)
                    if change is not None:
                        self._report(change)
            self._failures = 0
        except KubeError:
            # A quiet stream that has lived for long was no failure.
            if self._clock() - started_s > self._longest_backoff_s:
                self._failures = 0
            raise

    def _report(self, change: Change) -> None:
        if self._on_change is not None:
            self._on_change(*change)

    def _heard(self) -> None:
        self.current_at_s = self._clock()
        if self._failing_since_s is not None:
            outage_s = round(self.current_at_s - self._failing_since_s, 1)
            log.info("watch is current again", watch=self.name, outage_s=outage_s)
            self._failing_since_s = None

    def _wait_after(self, error: KubeError) -> float:
        """Count a failure; returns how long to wait. The second in a row is logged: one alone is nothing unusual."""
        self._failures += 1
        if self._failures == 1:
            return error.retry_after_s or 0.0
        if self._failing_since_s is None:
            self._failing_since_s = self._clock()
            log.warning("watch interrupted", watch=self.name, cause=error.cause, status=error.status)
        grown_s = self._first_backoff_s * 2.0 ** min(self._failures - 1, 16)
        return max(error.retry_after_s or 0.0, min(self._longest_backoff_s, grown_s) * self._rng.uniform(0.5, 1.0))
