"""A request's weight in GPU-seconds, by resource shares at a pool's planning batch.

What a request reads or computes alone (its attention pairs, its KV reads) is its own. What a step costs beyond that
(weight reads, matrix FLOPs, launches, interference) is split evenly over its tokens. Reasons and errors: decision 0004.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from math import ceil
from typing import NamedTuple

from estimator.accelerator import Accelerator
from estimator.architecture import Architecture
from estimator.curve import Curve, Surcharge, decode_curve, prefill_curve, surcharge
from estimator.length import OutputLength
from estimator.step import Step, step_model
from estimator.work import kv_capacity_tokens, prefill_pairs

DEFAULT_TPOT_S = 0.05
"""Mean time between output tokens that a planning batch is chosen for where the pool has no objective."""
MOST_SEQUENCES = 256
"""The largest batch that is chosen: vLLM's default limit of running sequences."""


LEAST_TPOT_RATIO = 1.5
"""A planning batch may slow one sequence down by this much, whatever the objective."""


class WeightSource(StrEnum):
    """Where a price comes from."""

    LEARNED = "learned"
    ANALYTIC = "analytic"


class Weight(NamedTuple):
    """What one request takes. Seconds are one replica's; `gpu_s` counts its GPUs.

    A named tuple, as one is built for each request and a frozen dataclass takes four times as long.
    """

    prefill_s: float
    decode_s: float
    """All steps after the first output token, own KV reads included."""
    decode_kv_s: float
    """The part of `decode_s` that reads this request's own KV cache."""
    input_tokens: int
    cached_tokens: int
    kv_tokens: int
    """Peak KV footprint: input and p90 of the output."""
    output_tokens_p50: float
    output_tokens_p90: float
    gpu_s: float
    """`(prefill_s + decode_s) * gpus`."""
    source: WeightSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What tokens cost on one kind of replica, at its planning batch. Compiled from a `Step`; plain arithmetic."""

    prefill_token_s: float
    decode_token_s: float
    """One output token's share of its steps, without its own KV reads."""
    kv_read_s_per_token: float
    """Reading one context token's KV in one step, at the mean context of the planning mix."""
    gpus: int
    source: WeightSource
    fit: str = ""
    """Of learned kernels: `measured` on this GPU, `relative` or `pooled` from others."""
    reason: str = ""
    """Why the price is analytic, where weights were looked for."""
    planning_batch: int
    prefill_chunk_tokens: int
    pair_curve: Curve
    """Attention seconds of a prefilled token at each context."""
    short_chunks: Surcharge
    kv_curve: Curve
    """KV read seconds of one sequence in one step at each context."""

    def weigh(self, *, input_tokens: int, output: OutputLength, cached_tokens: int = 0) -> Weight:
        """The expected weight of a request whose output length is a prediction.

        `cached_tokens` beyond the input count as the whole input.
        """
        mean_square = output.mean_square or output.mean * output.mean
        return self._weight(input_tokens, cached_tokens, output.mean, mean_square, output.p50, output.p90)

    def decode_s(self, *, input_tokens: int, output_tokens: float) -> float:
        """Seconds of a decode of known length: its share of the steps after the first token, and its own KV reads."""
        if output_tokens <= 1.0:
            return 0.0
        kv_s = self.decode_kv_s(input_tokens=input_tokens, output_tokens=output_tokens)
        return kv_s + (output_tokens - 1.0) * self.decode_token_s

    def used(self, *, input_tokens: int, output_tokens: int, cached_tokens: int = 0) -> Weight:
        """The weight of a request that has ended, by the same formula at its known output length."""
        tokens = float(output_tokens)
        return self._weight(input_tokens, cached_tokens, tokens, tokens * tokens, tokens, tokens)

    def prefill_s(self, *, input_tokens: int, cached_tokens: int = 0) -> float:
        """Seconds of the prefill alone: what a pick compares between replicas with different prefix hits.

        Counted as a first chunk that may be short, then full ones: so a longer prefix hit never costs more. Model
        servers run the short one last.
        """
        new = input_tokens - cached_tokens
        if new <= 0:
            return 0.0
        first = (new - 1) % self.prefill_chunk_tokens + 1
        curve = self.pair_curve
        attention_s = curve.integral(input_tokens)
        if cached_tokens:
            attention_s -= curve.integral(cached_tokens)
        attention_s += self.short_chunks.at(first, cached_tokens)
        return new * self.prefill_token_s + (attention_s if attention_s > 0.0 else 0.0)

    def decode_kv_s(self, *, input_tokens: int, output_tokens: float, mean_square: float | None = None) -> float:
        """Seconds of reading a request's own KV over its decode. The first output token comes from the prefill.

        `mean_square` is that of an uncertain `output_tokens`; the square of a certain one. An uncertain decode is one
        that happens with some chance and is then so long that the mean and the mean square of its steps are right:
        exact where reads grow in proportion to the context, and never less for a longer input.
        """
        steps = output_tokens - 1.0
        if steps <= 0.0:
            return 0.0
        span = steps
        if mean_square is not None:
            span = max(1.0, (mean_square - 2.0 * output_tokens + 1.0) / steps)
        start = input_tokens + 0.5
        return steps / span * (self.kv_curve.integral(start + span) - self.kv_curve.integral(start))

    def _weight(
        self, input_tokens: int, cached_tokens: int, mean: float, mean_square: float, p50: float, p90: float
    ) -> Weight:
        if cached_tokens > input_tokens:
            cached_tokens = input_tokens
        prefill_s = self.prefill_s(input_tokens=input_tokens, cached_tokens=cached_tokens)
        kv_s = self.decode_kv_s(input_tokens=input_tokens, output_tokens=mean, mean_square=mean_square)
        decode_s = kv_s + (mean - 1.0) * self.decode_token_s if mean > 1.0 else 0.0
        return Weight(
            prefill_s,
            decode_s,
            kv_s,
            input_tokens,
            cached_tokens,
            input_tokens + ceil(p90),
            p50,
            p90,
            (prefill_s + decode_s) * self.gpus,
            self.source,
        )


def analytic_price(
    architecture: Architecture,
    accelerator: Accelerator,
    *,
    tensor_parallel: int = 1,
    planning_batch: int | None = 48,
    prefill_chunk_tokens: int = 2048,
    mean_context_tokens: int = 1024,
    mean_output_tokens: int = 256,
    kv_tokens: int | None = None,
) -> Price:
    """The price from the analytic step model. `kv_tokens` is by default what the GPUs leave. See `price_from_step`."""
    if kv_tokens is None:
        kv_tokens = kv_capacity_tokens(architecture, accelerator, tensor_parallel)
    return price_from_step(
        step_model(architecture, accelerator, tensor_parallel=tensor_parallel),
        source=WeightSource.ANALYTIC,
        planning_batch=planning_batch,
        prefill_chunk_tokens=prefill_chunk_tokens,
        mean_context_tokens=mean_context_tokens,
        mean_output_tokens=mean_output_tokens,
        kv_tokens=kv_tokens,
    )


def ratio_of(price: Price, other_price: Price, *, input_tokens: int = 896, output_tokens: int = 256) -> float:
    """Seconds that a replica with `other_price` takes for what takes one with `price` a second.

    Over a request of the planning mix, each at its own planning batch: the time that it keeps a replica busy.
    """
    seconds = [
        one.prefill_s(input_tokens=input_tokens) + one.decode_s(input_tokens=input_tokens, output_tokens=output_tokens)
        for one in (price, other_price)
    ]
    return seconds[1] / seconds[0]


def fitting_batch(
    planning_batch: int,
    *,
    kv_tokens: int,
    mean_context_tokens: int = 1024,
    mean_output_tokens: int = 256,
) -> int:
    """The planning batch, or how many sequences of the planning mix `kv_tokens` hold where that is less; at least 1.

    Without a KV cache (0 tokens) nothing is known about what fits, and the batch stays.
    """
    if kv_tokens <= 0 or planning_batch <= 1:
        return planning_batch
    return max(1, min(planning_batch, kv_tokens // max(1, mean_context_tokens + mean_output_tokens // 2)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mix:
    """The steady state of a batch of decoding sequences: most steps only decode; as many carry a full prefill chunk as
    makes inputs arrive as fast as outputs end.
    """

    batch: int
    context_tokens: int
    output_tokens: int
    chunk_tokens: int

    @property
    def input_tokens(self) -> int:
        return max(1, self.context_tokens - self.output_tokens // 2)

    @property
    def chunk(self) -> int:
        """Prefill tokens of a step that carries some."""
        return min(self.chunk_tokens, self.batch * self.input_tokens)

    @property
    def prompts(self) -> float:
        """Prompts in one chunk, or the part of one."""
        return self.chunk / self.input_tokens

    @property
    def mixed_ratio(self) -> float:
        """Part of the steps that carry a chunk."""
        return min(1.0, self.batch * self.input_tokens / (self.output_tokens * self.chunk))

    def times_s(self, step: Step) -> tuple[float, float]:
        """Seconds of a step that only decodes and of one with a chunk."""
        kv_tokens = self.batch * self.context_tokens
        plain_s = step.time_s(
            prefill_tokens=0, prefill_pairs=0.0, decode_sequences=self.batch, decode_kv_tokens=kv_tokens
        )
        mixed_s = step.time_s(
            prefill_tokens=self.chunk,
            prefill_pairs=self.prompts * prefill_pairs(self.input_tokens),
            decode_sequences=self.batch,
            decode_kv_tokens=kv_tokens,
        )
        return plain_s, mixed_s

    def tpot_s(self, step: Step) -> float:
        """Mean time between a sequence's output tokens."""
        plain_s, mixed_s = self.times_s(step)
        return plain_s + self.mixed_ratio * (mixed_s - plain_s)


def _chosen_batch(step: Step, mix: _Mix, tpot_s: float, most: int) -> int:
    """The largest batch up to `most` whose mean time between tokens is within `tpot_s`.

    A target that one sequence alone barely meets or misses would give a batch of 1, at which weight reads are shared by
    nobody: then the target is `LEAST_TPOT_RATIO` times what one sequence takes.
    """
    tpot_s = max(tpot_s, LEAST_TPOT_RATIO * replace(mix, batch=1).tpot_s(step))
    low, high = 1, most
    while low < high:
        middle = (low + high + 1) // 2
        if replace(mix, batch=middle).tpot_s(step) <= tpot_s:
            low = middle
        else:
            high = middle - 1
    return low


def price_from_step(
    step: Step,
    *,
    source: WeightSource,
    fit: str = "",
    reason: str = "",
    planning_batch: int | None = 48,
    prefill_chunk_tokens: int = 2048,
    mean_context_tokens: int = 1024,
    mean_output_tokens: int = 256,
    kv_tokens: int = 0,
    most_sequences: int | None = None,
    tpot_s: float | None = None,
) -> Price:
    """Resource shares of `step` at the planning mix, compiled. Shares over the mix add up to its time exactly.

    The planning batch is lowered to what `kv_tokens` hold and to `most_sequences`: a replica never runs at a batch
    beyond that, and prices for one would be too low. `None` chooses it: the largest that keeps `tpot_s`
    (`DEFAULT_TPOT_S`) at the mix, fits the KV cache and is at most `MOST_SEQUENCES`. Raises `ValueError` when an
    argument is below 1.
    """
    asked = MOST_SEQUENCES if planning_batch is None else planning_batch
    if most_sequences is not None:
        asked = min(asked, most_sequences)
    if min(asked, prefill_chunk_tokens, mean_context_tokens, mean_output_tokens) < 1:
        raise ValueError(
            "planning_batch, prefill_chunk_tokens, mean_context_tokens and mean_output_tokens must be at least 1"
        )
    fits = fitting_batch(
        asked, kv_tokens=kv_tokens, mean_context_tokens=mean_context_tokens, mean_output_tokens=mean_output_tokens
    )
    mix = _Mix(
        batch=fits,
        context_tokens=mean_context_tokens,
        output_tokens=mean_output_tokens,
        chunk_tokens=prefill_chunk_tokens,
    )
    if planning_batch is None:
        mix = replace(mix, batch=_chosen_batch(step, mix, tpot_s or DEFAULT_TPOT_S, fits))
    batch = mix.batch
    # Launches are paid once per step, whoever is in it: they are not a request's own.
    launch_s = step.prefill_attention_s(1, 0)
    idle_s = step.decode_attention_s(batch, 1)

    def chunk_s(new_tokens: int, cached_tokens: int) -> float:
        return max(0.0, step.prefill_attention_s(new_tokens, cached_tokens) - launch_s)

    def read_s(context_tokens: int) -> float:
        return max(0.0, step.decode_attention_s(batch, context_tokens) - idle_s) / batch

    reads, pairs = decode_curve(read_s), prefill_curve(chunk_s, prefill_chunk_tokens)
    plain_s, mixed_s = mix.times_s(step)
    own_read_s = reads.rate(mean_context_tokens)
    if mix.input_tokens <= mix.chunk:
        own_chunk_s = mix.prompts * chunk_s(mix.input_tokens, 0)
    else:
        own_chunk_s = mix.prompts * pairs.integral(mix.input_tokens)
    mixed_share_s = max(0.0, mixed_s - batch * own_read_s - own_chunk_s) / (mix.chunk + batch)
    plain_share_s = max(0.0, plain_s - batch * own_read_s) / batch
    return Price(
        prefill_token_s=mixed_share_s,
        decode_token_s=plain_share_s + mix.mixed_ratio * (mixed_share_s - plain_share_s),
        kv_read_s_per_token=own_read_s / mean_context_tokens,
        gpus=step.gpus,
        source=source,
        fit=fit,
        reason=reason,
        planning_batch=batch,
        prefill_chunk_tokens=prefill_chunk_tokens,
        pair_curve=pairs,
        short_chunks=surcharge(chunk_s, pairs, prefill_chunk_tokens, mixed_share_s),
        kv_curve=reads,
    )
