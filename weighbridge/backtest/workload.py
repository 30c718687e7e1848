"""Recorded requests made into a workload: mixed, repeated, spread over a day, and weighed by the estimator."""

import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from estimator.length import LengthModel
from estimator.price import Price
from gateway.settle import LONG_PROMPT_FACTOR, LONG_PROMPT_TOKENS
from weighbridge.backtest.day import Warp
from weighbridge.backtest.pool import Arrival
from weighbridge.replay.trace import TracedRequest

LESSON_DELAY_S = 10.0
"""An output's length is known to the estimator this long after its request arrived: about when it has ended."""
MOST_SHARE = 1e9
COLD_REQUESTS = 2000
"""The length model has seen this many of each trace's requests before the first one is weighed: gateways are warm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A trace's requests in order, and the part of all requests that it makes up."""

    requests: Sequence[TracedRequest]
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Arrivals in order, over `length_s`."""

    arrivals: Sequence[Arrival]
    length_s: float
    offered_erlangs: float
    """Mean of arriving replica-seconds per second, by the output tokens that there were."""
    left_out: int
    """Requests of the traces that no replica can hold."""


def sources_of(recorded: Sequence[Sequence[TracedRequest]], shares: str | None = None) -> list[Source]:
    """Traces with their shares of all requests, which are by their rates unless given as `7:3`. Raises ValueError."""
    if shares is None:
        parts = [rate_of(requests) for requests in recorded]
    else:
        try:
            parts = [float(part) for part in shares.split(":")]
        except ValueError:
            parts = []
        if len(parts) != len(recorded) or not all(0 < part < MOST_SHARE for part in parts):
            raise ValueError(f"--shares {shares}: must be {len(recorded)} numbers above 0 with colons between them")
    total = sum(parts)
    return [Source(requests=requests, share=part / total) for requests, part in zip(recorded, parts, strict=True)]


def rate_of(requests: Sequence[TracedRequest]) -> float:
    """Requests per second of a trace; 1 for one that takes no time."""
    return len(requests) / requests[-1].at_s if requests[-1].at_s > 0 else 1.0


def mean_work_s(sources: Sequence[Source], price: Price) -> float:
    """Replica-seconds of one request, by the output tokens that there were."""
    return sum(
        source.share * sum(_used_s(request, price) for request in source.requests) / len(source.requests)
        for source in sources
    )


def make_workload(
    sources: Sequence[Source],
    price: Price,
    *,
    rate_per_s: float,
    length_s: float,
    shape: tuple[float, ...],
    ttft_slo_s: float,
    max_context_tokens: int,
    rng: random.Random,
) -> Workload:
    """`rate_per_s` requests a second on average. Each trace keeps its gaps, begins at a random place and is repeated.

    Shares are of requests and add up to 1. Raises ValueError for a trace without a request that fits.
    """
    fitting, left_out = [], 0
    for source in sources:
        fit = [r for r in source.requests if r.input_tokens + r.output_tokens <= max_context_tokens]
        if not fit:
            raise ValueError(f"no request of a trace fits {max_context_tokens} tokens")
        left_out += len(source.requests) - len(fit)
        fitting.append(Source(requests=fit, share=source.share))
    warp = Warp(shape, length_s)
    queue: list[tuple[float, int, TracedRequest]] = []
    for number, source in enumerate(fitting):
        queue.extend((warp.at_s(done), number, request) for done, request in _laps(source, rate_per_s, length_s, rng))
    queue.sort(key=lambda entry: entry[:2])
    arrivals = list(_weighed(queue, fitting, price, ttft_slo_s))
    used_s = sum(_used_s(request, price) for _, _, request in queue)
    return Workload(arrivals=arrivals, length_s=length_s, offered_erlangs=used_s / length_s, left_out=left_out)


def _laps(
    source: Source, rate_per_s: float, length_s: float, rng: random.Random
) -> Iterator[tuple[float, TracedRequest]]:
    """The requests of a trace over and over, as seconds of the mean rate."""
    requests = source.requests
    lap_s = requests[-1].at_s + requests[-1].at_s / max(1, len(requests) - 1) if len(requests) > 1 else 1.0
    scale = len(requests) / (lap_s * source.share * rate_per_s)
    first = rng.randrange(len(requests))
    offset_s = requests[first].at_s
    for lap in count():
        for index in range(first if lap == 0 else 0, len(requests)):
            done_s = (requests[index].at_s - offset_s + lap * lap_s) * scale
            if done_s >= length_s:
                return
            yield done_s, requests[index]


def _weighed(
    queue: Sequence[tuple[float, int, TracedRequest]], sources: Sequence[Source], price: Price, ttft_slo_s: float
) -> Iterator[Arrival]:
    """Weights by what earlier requests have shown, as a gateway predicts them. A trace is a route."""
    lengths = LengthModel(refresh_every=64)
    for number, source in enumerate(sources):
        for request in source.requests[:COLD_REQUESTS]:
            lengths.observe(number, request.output_tokens, input_tokens=request.input_tokens)
    lessons: deque[tuple[float, int, TracedRequest]] = deque()
    for at_s, number, request in queue:
        lessons.append((at_s + LESSON_DELAY_S, number, request))
        while lessons[0][0] <= at_s:
            _, route, known = lessons.popleft()
            lengths.observe(route, known.output_tokens, input_tokens=known.input_tokens)
        weight = price.weigh(
            input_tokens=request.input_tokens, output=lengths.predict(number, input_tokens=request.input_tokens)
        )
        limit_s = ttft_slo_s
        if request.input_tokens > LONG_PROMPT_TOKENS:
            limit_s += LONG_PROMPT_FACTOR * weight.prefill_s
        yield Arrival(at_s, request.output_tokens, limit_s, weight)


def _used_s(request: TracedRequest, price: Price) -> float:
    weight = price.used(input_tokens=request.input_tokens, output_tokens=request.output_tokens)
    return weight.prefill_s + weight.decode_s
