"""Send a trace on time, whatever comes back: an open loop over HTTP.

Nothing is retried: an error is an error. The client bounds its own connections; a request that had to wait for one is
sent late, counted, and shows in the report as the client's fault.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import aiohttp

from weighbridge.replay.record import Ending, RequestRecord
from weighbridge.replay.stream import StreamReader
from weighbridge.replay.trace import TracedRequest

_ERROR_BODY_BYTES = 2048

BodyOf = Callable[[int, TracedRequest], bytes]
"""The JSON body of the request with this index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderSettings:
    """Where requests go and how fast. `speed` 2 replays two trace seconds per second."""

    url: str
    """The endpoint without `/v1`."""
    key: str | None = field(default=None, repr=False)
    speed: float = 1.0
    max_open: int = 1024
    """Connections the client holds at once."""
    request_s: float = 600.0
    """A request that takes longer than this has timed out."""
    connect_s: float = 10.0


@dataclass(slots=True, kw_only=True)
class SenderCounts:
    """The sender's own state; read it while the replay runs."""

    sent: int = 0
    ended: int = 0
    lost: int = 0
    waited_for_connection: int = 0
    """Requests that were due while `max_open` others were open."""
    peak_open: int = 0

    @property
    def in_flight(self) -> int:
        """Requests sent and not ended."""
        return self.sent - self.ended


@dataclass(slots=True, kw_only=True)
class _Progress:
    """What is known of a request while it runs."""

    sent_at_s: float
    first_token_at_s: float | None = None
    last_token_at_s: float | None = None
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    stream: StreamReader = field(default_factory=StreamReader)


class Sender:
    """One replay. `clock` counts seconds from any origin; records count from the call of `run`."""

    def __init__(self, settings: SenderSettings, *, body_of: BodyOf, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._body_of = body_of
        self._clock = clock
        self._room = asyncio.Semaphore(settings.max_open)
        self.counts = SenderCounts()

    async def run(self, requests: Sequence[TracedRequest]) -> list[RequestRecord]:
        """Send every request at its instant and wait for the last answer. Records are in the order of `requests`."""
        headers = {"content-type": "application/json"}
        if self._settings.key:
            headers["authorization"] = f"Bearer {self._settings.key}"
        start_s = self._clock()
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=self._settings.request_s, sock_connect=self._settings.connect_s),
                auto_decompress=False,
            ) as http,
            asyncio.TaskGroup() as group,
        ):
            tasks = []
            for index, request in enumerate(requests):
                # The body is made before the wait, so that making it does not delay the request.
                body = self._body_of(index, request)
                scheduled_at_s = request.at_s / self._settings.speed
                await asyncio.sleep(max(0.0, scheduled_at_s - (self._clock() - start_s)))
                send = self._send(http, index, request, body, scheduled_at_s=scheduled_at_s, start_s=start_s)
                tasks.append(group.create_task(send, name=f"replay request {index}"))
        return [task.result() for task in tasks]

    async def _send(
        self,
        http: aiohttp.ClientSession,
        index: int,
        request: TracedRequest,
        body: bytes,
        *,
        scheduled_at_s: float,
        start_s: float,
    ) -> RequestRecord:
        if self._room.locked():
            self.counts.waited_for_connection += 1
        async with self._room:
            progress = _Progress(sent_at_s=self._clock() - start_s)
            self.counts.sent += 1
            self.counts.peak_open = max(self.counts.peak_open, self.counts.in_flight)
            ending, detail = await self._exchange(http, body, progress, start_s=start_s)
        self.counts.ended += 1
        self.counts.lost += ending is not Ending.COMPLETE
        record = RequestRecord(
            index=index,
            input_tokens=request.input_tokens,
            output_tokens=request.output_tokens,
            scheduled_at_s=scheduled_at_s,
            sent_at_s=progress.sent_at_s,
            first_token_at_s=progress.first_token_at_s,
            last_token_at_s=progress.last_token_at_s,
            ended_at_s=self._clock() - start_s,
            ending=ending,
            status=progress.status,
            outcome=progress.headers.get("x-weighbridge-outcome"),
            replica=progress.headers.get("x-weighbridge-replica"),
            queue_ms=_number(progress.headers.get("x-weighbridge-queue-ms")),
            predicted_gpu_s=_number(progress.headers.get("x-weighbridge-gpu-seconds")),
            token_events=progress.stream.token_events,
            detail=detail,
        )
        usage = progress.stream.usage
        if usage is None:
            return record
        return replace(
            record,
            used_input_tokens=usage.prompt_tokens,
            used_cached_tokens=usage.cached_tokens,
            used_output_tokens=usage.completion_tokens,
        )

    async def _exchange(
        self, http: aiohttp.ClientSession, body: bytes, progress: _Progress, *, start_s: float
    ) -> tuple[Ending, str | None]:
        """One request on the wire; fills `progress` and says how it ended."""
        url = f"{self._settings.url.rstrip('/')}/v1/chat/completions"
        try:
            async with http.post(url, data=body) as response:
                progress.status = response.status
                progress.headers = response.headers
                if response.status != 200:
                    text = await response.content.read(_ERROR_BODY_BYTES)
                    return Ending.HTTP_ERROR, f"{response.status}: {text.decode(errors='replace')}"
                async for chunk in response.content.iter_any():
                    if progress.stream.feed(chunk):
                        progress.last_token_at_s = self._clock() - start_s
                        if progress.first_token_at_s is None:
                            progress.first_token_at_s = progress.last_token_at_s
        except TimeoutError as error:
            if isinstance(error, aiohttp.ConnectionTimeoutError):
                return Ending.CONNECT_FAILED, repr(error)
            return Ending.TIMED_OUT, f"no complete response in {self._settings.request_s:g} s"
        except aiohttp.ClientConnectorError as error:
            return Ending.CONNECT_FAILED, str(error)
        except (aiohttp.ClientError, OSError) as error:
            return Ending.CUT_OFF, repr(error)
        return _ending_of(progress.stream)


def _ending_of(stream: StreamReader) -> tuple[Ending, str | None]:
    if stream.error is not None:
        return Ending.STREAM_ERROR, stream.error
    if not (stream.done and stream.finished):
        return Ending.CUT_OFF, "the stream ended without a finish reason and [DONE]"
    return Ending.COMPLETE, None


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
