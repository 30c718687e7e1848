"""Run one replay: sender, status poller and an onlooker side by side. The only file that knows their order."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import aiohttp
import msgspec

from weighbridge.replay.prompt import PromptWriter, chat_body
from weighbridge.replay.report import Replayed
from weighbridge.replay.sender import Sender, SenderCounts, SenderSettings
from weighbridge.replay.status import StatusPoller, StatusSample
from weighbridge.replay.trace import TracedRequest

Onlooker = Callable[[SenderCounts, StatusSample | None], None]
"""Told twice a second how far the replay is; the sample is the newest one, if any."""

_LOOK_EVERY_S = 0.5


class NoModel(Exception):
    """The endpoint cannot say which model to replay to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayJob:
    """What to send where. `trace` names the source of `requests` in the report."""

    url: str
    key: str | None = field(default=None, repr=False)
    model: str
    admin_url: str | None = None
    trace: str
    requests: Sequence[TracedRequest]
    speed: float = 1.0
    seed: int = 0
    max_open: int = 1024


async def replay(
    job: ReplayJob, *, clock: Callable[[], float], wall_clock: Callable[[], float], onlooker: Onlooker
) -> Replayed:
    """Send the whole trace and wait for every answer. `clock` is monotonic, `wall_clock` counts from the epoch."""
    writer = PromptWriter(seed=job.seed)

    def body_of(index: int, request: TracedRequest) -> bytes:
        return chat_body(job.model, writer.prompt(index, request), max_tokens=request.output_tokens)

    settings = SenderSettings(url=job.url, key=job.key, speed=job.speed, max_open=job.max_open)
    sender = Sender(settings, body_of=body_of, clock=clock)
    poller = None if job.admin_url is None else StatusPoller(job.admin_url, clock=clock)
    samples = [] if poller is None else poller.samples
    start_s, started_at_s = clock(), wall_clock()
    async with asyncio.TaskGroup() as group:
        watching = [group.create_task(_watch(sender.counts, samples, onlooker), name="replay onlooker")]
        if poller is not None:
            watching.append(group.create_task(poller.run(start_s=start_s), name="replay status poller"))
        records = await sender.run(job.requests)
        for task in watching:
            task.cancel()
    onlooker(sender.counts, samples[-1] if samples else None)
    return Replayed(
        trace=job.trace,
        model=job.model,
        speed=job.speed,
        seed=job.seed,
        started_at_s=started_at_s,
        wall_s=clock() - start_s,
        records=records,
        counts=sender.counts,
        samples=samples,
    )


async def find_only_model(url: str, *, key: str | None) -> str:
    """The one model that the endpoint serves. Raises `NoModel` if it serves none or several, or does not answer."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    try:
        async with (
            aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=10)) as http,
            http.get(f"{url.rstrip('/')}/v1/models") as response,
        ):
            body = await response.read()
            if response.status != 200:
                raise NoModel(f"{url} answers /v1/models with {response.status}: {body[:300].decode(errors='replace')}")
    except (aiohttp.ClientError, OSError) as error:
        raise NoModel(f"{url} does not answer: {error}") from error
    try:
        models = [model.id for model in msgspec.json.decode(body, type=_Models).data]
    except msgspec.DecodeError as error:
        raise NoModel(f"{url} answers /v1/models with something else: {error}") from error
    if len(models) != 1:
        raise NoModel(f"{url} serves {', '.join(models) or 'no model'}: choose one with --model")
    return models[0]


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


async def _watch(counts: SenderCounts, samples: Sequence[StatusSample], onlooker: Onlooker) -> None:
    while True:
        onlooker(counts, samples[-1] if samples else None)
        await asyncio.sleep(_LOOK_EVERY_S)
