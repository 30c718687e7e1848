"""What the simulated tenants send: pieces of production traces where they are at hand, else generated ones."""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from benchmarks.order.setup import Job
from estimator.price import Price
from weighbridge.replay.synthetic import synthetic_trace
from weighbridge.replay.trace import TracedRequest, load_trace

TRACES = Path(__file__).resolve().parents[3] / "shared" / "data" / "traces"
CHAT_TRACE = "azure2023_conv.csv"
LONG_TRACE = "mooncake_conversation.jsonl"
SHORT_TOKENS = 4096
"""A request with at most so many input tokens counts as short."""

_SYNTHETIC_MINUTES = 20.0


@dataclass(frozen=True, slots=True)
class Sources:
    """Requests to draw from: chat (median prompt 1,020 tokens) and long contexts (median 7,000, up to 126,000)."""

    chat: Sequence[TracedRequest]
    long: Sequence[TracedRequest]
    recorded: bool
    """From trace files, not generated."""


def load_sources(folder: Path = TRACES, *, seed: int = 0) -> Sources:
    """The two traces in `folder`, or generated workloads when either is missing."""
    rng = random.Random(seed)
    chat, long = folder / CHAT_TRACE, folder / LONG_TRACE
    if chat.is_file() and long.is_file():
        return Sources(load_trace(chat, rng=rng), load_trace(long, rng=rng), True)
    return Sources(synthetic_trace(minutes=_SYNTHETIC_MINUTES, rng=rng), long_trace(rng), False)


def long_trace(rng: random.Random, *, minutes: float = _SYNTHETIC_MINUTES) -> list[TracedRequest]:
    """Long-context requests: a log-normal through median 7,000 and 90th percentile 28,000, as in Mooncake's trace."""
    requests, at_s = [], 0.0
    while at_s < minutes * 60:
        tokens = min(126_000, max(100, round(rng.lognormvariate(8.85, 1.08))))
        requests.append(TracedRequest(at_s=at_s, input_tokens=tokens, output_tokens=rng.randint(10, 680)))
        at_s += rng.expovariate(3.4)
    return requests


def arrivals(
    source: Sequence[TracedRequest],
    tenant: str,
    price: Price,
    *,
    gpu_s_per_s: float,
    from_s: float,
    to_s: float,
    skip: int = 0,
) -> list[Job]:
    """Consecutive requests of `source` after the first `skip`, as many as offer `gpu_s_per_s` over the window.

    Their own times are stretched or shrunk onto the window, so bursts keep their form. The source is used again from
    the start when it ends.
    """
    wanted_gpu_s = gpu_s_per_s * (to_s - from_s)
    chosen: list[TracedRequest] = []
    offered_gpu_s = 0.0
    for request in _endless(source, skip):
        if offered_gpu_s >= wanted_gpu_s:
            break
        chosen.append(request)
        offered_gpu_s += price.used(input_tokens=request.input_tokens, output_tokens=request.output_tokens).gpu_s
    if not chosen:
        return []
    start_s, span_s = chosen[0].at_s, chosen[-1].at_s - chosen[0].at_s
    scale = (to_s - from_s) / span_s if span_s else 0.0
    return [
        Job(
            id=f"{tenant}-{from_s:g}-{index}",
            tenant=tenant,
            at_s=from_s + (request.at_s - start_s) * scale,
            input_tokens=request.input_tokens,
            output_tokens=request.output_tokens,
        )
        for index, request in enumerate(chosen)
    ]


def drawn(source: Sequence[TracedRequest], rng: random.Random) -> list[TracedRequest]:
    """The same requests in random order, one a second: no bursts, and no part of the trace differs from another."""
    mixed = rng.sample(list(source), len(source))
    return [replace(request, at_s=float(index)) for index, request in enumerate(mixed)]


def offered_gpu_s(jobs: Iterable[Job], price: Price) -> float:
    """What `jobs` will use, at their true output lengths."""
    return sum(price.used(input_tokens=job.input_tokens, output_tokens=job.output_tokens).gpu_s for job in jobs)


def _endless(source: Sequence[TracedRequest], skip: int) -> Iterator[TracedRequest]:
    lap_s = source[-1].at_s + 1.0
    for index in count(skip):
        lap, place = divmod(index, len(source))
        yield replace(source[place], at_s=source[place].at_s + lap * lap_s)
