"""What a plot of weights shows: the weight of a request and its parts at each of many input lengths, as values."""

from dataclasses import dataclass
from math import ceil, log2

from estimator.architecture import Architecture
from estimator.parts import Parts, parts_of
from estimator.price import Price

LEAST_TOKENS = 128
"""The shortest input of a line."""
POINTS_PER_OCTAVE = 16

MODELS_AT_ONCE = 6
GPUS_AT_ONCE = 4
LINES_AT_ONCE = 12
PANELS_AT_ONCE = 6
"""What one picture shows and can still be read: colors, dashes, lines; lines with a panel each for their parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line: requests on one kind of replica, by input tokens, which rise. The tuples have one entry for each."""

    model: str
    gpu: str
    gpus: int
    origin: str
    """Where the price comes from, and for learned kernels, whose: `learned (measured)`, `analytic`."""
    input_tokens: tuple[int, ...]
    gpu_s: tuple[float, ...]
    parts: tuple[Parts, ...]
    """GPU-seconds; they add up to `gpu_s`."""

    @property
    def attention_ratios(self) -> tuple[float, ...]:
        """Attention's part of each weight, in [0, 1]."""
        return tuple(parts.attention_ratio for parts in self.parts)


def input_lengths(most: int) -> tuple[int, ...]:
    """Lengths from `LEAST_TOKENS` to `most`, evenly spaced in their logarithm, both ends included.

    Raises `ValueError` when `most` is less than one octave above.
    """
    if most < 2 * LEAST_TOKENS:
        raise ValueError(f"the longest input must be at least {2 * LEAST_TOKENS} tokens, not {most}")
    steps = ceil(POINTS_PER_OCTAVE * log2(most / LEAST_TOKENS))
    between = {round(LEAST_TOKENS * (most / LEAST_TOKENS) ** (step / steps)) for step in range(1, steps)}
    return tuple(sorted(between | {LEAST_TOKENS, most}))


def longest_input(architecture: Architecture, *, kv_capacity_tokens: int, output_tokens: int) -> int:
    """Input tokens that the model's context and the replica's KV cache leave beside the output; may be below 1."""
    return min(architecture.context_tokens or kv_capacity_tokens, kv_capacity_tokens) - output_tokens


def series_of(price: Price, *, model: str, gpu: str, output_tokens: int, most_input_tokens: int) -> Series:
    """The weights of requests without cached tokens that end after `output_tokens`, as a gateway bills them.

    Raises `ValueError` as `input_lengths` does.
    """
    lengths = input_lengths(most_input_tokens)
    weights = [price.used(input_tokens=tokens, output_tokens=output_tokens) for tokens in lengths]
    return Series(
        model=model,
        gpu=gpu,
        gpus=price.gpus,
        origin=_origin(price),
        input_tokens=lengths,
        gpu_s=tuple(weight.gpu_s for weight in weights),
        parts=tuple(parts_of(price, weight) for weight in weights),
    )


def _origin(price: Price) -> str:
    return f"{price.source.value} ({price.fit})" if price.fit else price.source.value
