"""What a replica shows whose parts are slower than priced by known scalars."""

from estimator.accelerator import ACCELERATORS
from estimator.calibrate_parts import DecodePoint, Fitted, PartScalars, PrefillPoint, predicted_s
from estimator.choice import choose_step
from estimator.models import find_model
from estimator.price import Price, WeightSource, price_from_step
from estimator.step import Step

CHUNK = 2048
ARCHITECTURE = find_model("llama-3.1-8b")
assert ARCHITECTURE is not None
STEP: Step = choose_step(ARCHITECTURE, ACCELERATORS["L40S"]).step
PRICE: Price = price_from_step(STEP, source=WeightSource.LEARNED)
HIDDEN = PartScalars(prefill_linear=1.3, prefill_attention=0.7, decode_shared=1.2, decode_kv=1.6)
PROMPTS = [(128 * 2**n, cached) for n in range(8) for cached in (0, 64 * 2**n)]
BATCHES = [(batch, context) for batch in (1, 4, 16, 32) for context in (256, 1024, 4096, 8192)]


def points(hidden: PartScalars, request_s: float = 0.0) -> tuple[list[PrefillPoint], list[DecodePoint]]:
    """What a replica shows whose parts are `hidden` times as slow."""
    truth = Fitted(scalars=hidden, request_s=request_s)

    def of(point: PrefillPoint | DecodePoint) -> float:
        return predicted_s(STEP, point, truth, chunk_tokens=CHUNK)

    prefill = [PrefillPoint(input_tokens=inputs, cached_tokens=cached, seconds=0.0) for inputs, cached in PROMPTS]
    decode = [DecodePoint(sequences=batch, context_tokens=context, seconds=0.0) for batch, context in BATCHES]
    return (
        [PrefillPoint(input_tokens=p.input_tokens, cached_tokens=p.cached_tokens, seconds=of(p)) for p in prefill],
        [DecodePoint(sequences=p.sequences, context_tokens=p.context_tokens, seconds=of(p)) for p in decode],
    )
