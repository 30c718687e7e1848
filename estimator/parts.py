"""What a weight is made of: linear layers and attention, in prefill and in decode."""

from typing import NamedTuple

from estimator.price import Price, Weight


class Parts(NamedTuple):
    """A weight's GPU-seconds by what they are spent on. They add up to `Weight.gpu_s`, up to rounding of floats.

    Linear work goes with the number of tokens: matrix products, and a share of the weight reads, launches and
    interference of the steps that the tokens are in. Attention goes with the context: query-key pairs of the prefill,
    reads of the request's own KV cache in decode.
    """

    prefill_linear_gpu_s: float
    prefill_attention_gpu_s: float
    decode_linear_gpu_s: float
    decode_attention_gpu_s: float

    @property
    def attention_ratio(self) -> float:
        """Attention's part of the whole, in [0, 1]; 0 for a request that takes no time."""
        total = sum(self)
        return (self.prefill_attention_gpu_s + self.decode_attention_gpu_s) / total if total else 0.0


def parts_of(price: Price, weight: Weight) -> Parts:
    """The parts of `weight`, which must be one that `price` gave. None is negative.

    The linear part of a prefill is the tokens that are computed, times their price; what is left of `prefill_s` is
    attention. `decode_kv_s` is the attention of decode; what is left of `decode_s` is linear.
    """
    new_tokens = weight.input_tokens - weight.cached_tokens
    linear_s = new_tokens * price.prefill_token_s
    return Parts(
        prefill_linear_gpu_s=linear_s * price.gpus,
        prefill_attention_gpu_s=(weight.prefill_s - linear_s) * price.gpus,
        decode_linear_gpu_s=(weight.decode_s - weight.decode_kv_s) * price.gpus,
        decode_attention_gpu_s=weight.decode_kv_s * price.gpus,
    )
