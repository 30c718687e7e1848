"""A request's weight in GPU-seconds, by resource shares at a pool's planning batch.

What a request reads or computes alone (its attention pairs, its KV reads) is its own. What a step costs beyond that
(weight reads, matrix FLOPs, launches, interference) is split evenly over its tokens. Reasons and errors: decision 0004.
"""

from dataclasses import dataclass
from enum import StrEnum
from math import ceil
from typing import NamedTuple

from estimator.accelerator import Accelerator
from estimator.architecture import Architecture
from estimator.length import OutputLength
from estimator.step import StepModel, step_model
from estimator.work import kv_capacity_tokens


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
    """What tokens cost on one kind of replica, at its planning batch."""

    prefill_token_s: float
    prefill_pair_s: float
    """One query-key pair in the full-attention layers."""
    decode_token_s: float
    """One output token's share of its steps, without its own KV reads."""
    kv_read_s_per_token: float
    """Reading one context token's KV in one step, in the full-attention layers."""
    gpus: int
    source: WeightSource
    window_tokens: int = 0
    window_pair_s: float = 0.0
    window_kv_read_s_per_token: float = 0.0

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
        """Seconds of the prefill alone: what a pick compares between replicas with different prefix hits."""
        new = input_tokens - cached_tokens
        if new <= 0:
            return 0.0
        pairs = new * (cached_tokens + 0.5 * (new + 1))
        seconds = new * self.prefill_token_s + pairs * self.prefill_pair_s
        if self.window_tokens:
            seconds += min(pairs, float(new * self.window_tokens)) * self.window_pair_s
        return seconds

    def decode_kv_s(self, *, input_tokens: int, output_tokens: float, mean_square: float | None = None) -> float:
        """Seconds of reading a request's own KV over its decode. The first output token comes from the prefill.

        `mean_square` is that of an uncertain `output_tokens`; the square of a certain one. Step i reads the input and i
        output tokens, so the sum over the steps is `(O - 1) * input + (O^2 - O) / 2`.
        """
        steps = output_tokens - 1.0
        if steps <= 0.0:
            return 0.0
        square = output_tokens * output_tokens if mean_square is None else mean_square
        reads = steps * input_tokens + 0.5 * (square - output_tokens)
        seconds = reads * self.kv_read_s_per_token
        if self.window_tokens:
            seconds += min(reads, steps * self.window_tokens) * self.window_kv_read_s_per_token
        return seconds

    def _weight(
        self, input_tokens: int, cached_tokens: int, mean: float, mean_square: float, p50: float, p90: float
    ) -> Weight:
        cached_tokens = min(cached_tokens, input_tokens)
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
    planning_batch: int = 48,
    prefill_chunk_tokens: int = 2048,
    mean_context_tokens: int = 1024,
    mean_output_tokens: int = 256,
    kv_tokens: int | None = None,
) -> Price:
    """The price from the analytic step model. See `price_from_step` for the mix.

    The planning batch is lowered to what `kv_tokens` (by default what the GPUs leave) can hold: a replica never runs
    at a batch beyond that, and prices for one would be too low.
    """
    if kv_tokens is None:
        kv_tokens = kv_capacity_tokens(architecture, accelerator, tensor_parallel)
    return price_from_step(
        step_model(architecture, accelerator, tensor_parallel=tensor_parallel),
        source=WeightSource.ANALYTIC,
        planning_batch=fitting_batch(
            planning_batch,
            kv_tokens=kv_tokens,
            mean_context_tokens=mean_context_tokens,
            mean_output_tokens=mean_output_tokens,
        ),
        prefill_chunk_tokens=prefill_chunk_tokens,
        mean_context_tokens=mean_context_tokens,
        mean_output_tokens=mean_output_tokens,
    )


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


def price_from_step(
    step: StepModel,
    *,
    source: WeightSource,
    planning_batch: int = 48,
    prefill_chunk_tokens: int = 2048,
    mean_context_tokens: int = 1024,
    mean_output_tokens: int = 256,
) -> Price:
    """Resource shares of `step` at the planning mix.

    The mix is the steady state of `planning_batch` decoding sequences with `mean_context_tokens` each: most steps only
    decode; as many carry a full prefill chunk as makes inputs arrive as fast as outputs end. Shares over the mix add up
    to its time exactly. Raises `ValueError` when an argument is below 1.
    """
    if min(planning_batch, prefill_chunk_tokens, mean_context_tokens, mean_output_tokens) < 1:
        raise ValueError(
            "planning_batch, prefill_chunk_tokens, mean_context_tokens and mean_output_tokens must be at least 1"
        )
    kv_tokens = planning_batch * mean_context_tokens
    mean_input = max(1.0, mean_context_tokens - mean_output_tokens / 2)
    chunk = min(prefill_chunk_tokens, int(planning_batch * mean_input))
    pairs = chunk * (mean_input / 2 if mean_input < chunk else chunk / 2)
    decode_only_s = step.time_s(
        prefill_tokens=0, prefill_pairs=0.0, decode_sequences=planning_batch, decode_kv_tokens=kv_tokens
    )
    mixed_s = step.time_s(
        prefill_tokens=chunk, prefill_pairs=pairs, decode_sequences=planning_batch, decode_kv_tokens=kv_tokens
    )
    own_kv_s = kv_tokens * step.full_kv_read_s
    own_pair_s = pairs * step.full_pair_s
    if step.window_tokens:
        own_kv_s += planning_batch * min(mean_context_tokens, step.window_tokens) * step.window_kv_read_s
        own_pair_s += min(pairs, float(chunk * step.window_tokens)) * step.window_pair_s
    mixed_share_s = max(0.0, mixed_s - own_kv_s - own_pair_s) / (chunk + planning_batch)
    decode_share_s = max(0.0, decode_only_s - own_kv_s) / planning_batch
    mixed_ratio = min(1.0, planning_batch * mean_input / (mean_output_tokens * chunk))
    return Price(
        prefill_token_s=mixed_share_s,
        prefill_pair_s=step.full_pair_s,
        decode_token_s=mixed_ratio * mixed_share_s + (1.0 - mixed_ratio) * decode_share_s,
        kv_read_s_per_token=step.full_kv_read_s,
        gpus=step.gpus,
        source=source,
        window_tokens=step.window_tokens,
        window_pair_s=step.window_pair_s,
        window_kv_read_s_per_token=step.window_kv_read_s,
    )
