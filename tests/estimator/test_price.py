"""Prices: conservation, monotony, units."""

from statistics import mean

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from estimator.accelerator import ACCELERATORS, Accelerator
from estimator.architecture import Architecture
from estimator.length import OutputLength
from estimator.models import MODELS
from estimator.price import Price, WeightSource, analytic_price, price_from_step, ratio_of
from estimator.step import step_model
from estimator.work import prefill_pairs
from tests.estimator.shapes import L40S, LLAMA_8B, accelerators, models

inputs = st.integers(min_value=0, max_value=131_072)
outputs = st.integers(min_value=0, max_value=32_768)


@st.composite
def prices(draw: st.DrawFn) -> Price:
    return analytic_price(
        draw(models),
        draw(accelerators),
        planning_batch=draw(st.integers(min_value=1, max_value=256)),
        prefill_chunk_tokens=draw(st.integers(min_value=16, max_value=16_384)),
        mean_context_tokens=draw(st.integers(min_value=1, max_value=32_768)),
        mean_output_tokens=draw(st.integers(min_value=1, max_value=4096)),
    )


def length(tokens: float) -> OutputLength:
    return OutputLength(tokens, tokens, tokens)


@given(
    model=models,
    gpu=accelerators,
    batch=st.integers(min_value=4, max_value=256),
    input_tokens=st.integers(min_value=64, max_value=8192),
    output_tokens=st.integers(min_value=16, max_value=2048),
)
def test_weights_of_the_planning_mix_add_up_to_its_busy_time(
    model: Architecture, gpu: Accelerator, batch: int, input_tokens: int, output_tokens: int
) -> None:
    """Run `batch` sequences through their whole life, `output_tokens` steps: prefills ride in full chunks.

    They differ by rounding and by the first output token, which needs no decode step: the bound is 2 % and 1.5 tokens
    of an output. Prefill that is more than the steps can carry is excluded.
    """
    chunk = 2048
    chunks = batch * input_tokens / chunk
    assume(1 <= chunks <= output_tokens)
    context = input_tokens + output_tokens // 2
    step = step_model(model, gpu)
    price = price_from_step(
        step,
        source=WeightSource.ANALYTIC,
        planning_batch=batch,
        prefill_chunk_tokens=chunk,
        mean_context_tokens=context,
        mean_output_tokens=output_tokens,
    )
    pairs = prefill_pairs(input_tokens) * batch / chunks
    # A window fills at some point of a life: reads at the mean context would be more than the mean of reads.
    contexts = [input_tokens + int(output_tokens * (part + 0.5) / 32) for part in range(32)]
    decodes = [{"decode_sequences": batch, "decode_kv_tokens": batch * tokens} for tokens in contexts]
    mixed_s = mean(step.time_s(prefill_tokens=chunk, prefill_pairs=pairs, **of_step) for of_step in decodes)
    plain_s = mean(step.time_s(prefill_tokens=0, prefill_pairs=0.0, **of_step) for of_step in decodes)
    busy_s = chunks * mixed_s + (output_tokens - chunks) * plain_s
    attributed_s = batch * price.used(input_tokens=input_tokens, output_tokens=output_tokens).gpu_s
    assert attributed_s / busy_s == pytest.approx(1.0, abs=0.02 + 1.5 / output_tokens)


@pytest.mark.parametrize("batch", [24, 36, 60, 96])
def test_away_from_the_planning_batch_the_weights_stay_near_the_busy_time(batch: int) -> None:
    """Fewer requests share a step's weight read, so prices at batch 48 fall short of a smaller batch's busy time."""
    price = analytic_price(LLAMA_8B, L40S, planning_batch=48)
    busy_s = step_model(LLAMA_8B, L40S).time_s(
        prefill_tokens=0, prefill_pairs=0.0, decode_sequences=batch, decode_kv_tokens=batch * 1024
    )
    attributed_s = batch * (price.decode_token_s + 1024 * price.kv_read_s_per_token)
    assert attributed_s / busy_s == pytest.approx(batch / 48, rel=0.35)
    assert (attributed_s < busy_s) == (batch < 48)


def test_a_planning_batch_beyond_the_kv_cache_is_lowered_to_what_fits() -> None:
    fits = analytic_price(LLAMA_8B, L40S, planning_batch=10, kv_tokens=11_520)
    assert analytic_price(LLAMA_8B, L40S, planning_batch=200, kv_tokens=11_520) == fits
    assert analytic_price(LLAMA_8B, L40S, planning_batch=200, kv_tokens=100).decode_token_s > fits.decode_token_s


@given(price=prices(), input_tokens=inputs, cached=inputs, output=outputs)
def test_weights_are_never_negative(price: Price, input_tokens: int, cached: int, output: int) -> None:
    weight = price.weigh(input_tokens=input_tokens, cached_tokens=cached, output=length(output))
    assert min(weight.prefill_s, weight.decode_s, weight.decode_kv_s, weight.gpu_s) >= 0.0
    assert weight.decode_kv_s <= weight.decode_s
    assert weight.cached_tokens <= weight.input_tokens
    assert weight.kv_tokens == input_tokens + output


@given(
    price=prices(), input_tokens=inputs, cached=inputs, output=outputs, more=st.integers(min_value=1, max_value=1000)
)
def test_more_tokens_never_weigh_less(price: Price, input_tokens: int, cached: int, output: int, more: int) -> None:
    cached = min(cached, input_tokens)
    base = price.used(input_tokens=input_tokens, cached_tokens=cached, output_tokens=output)
    longer_input = price.used(input_tokens=input_tokens + more, cached_tokens=cached, output_tokens=output)
    longer_output = price.used(input_tokens=input_tokens, cached_tokens=cached, output_tokens=output + more)
    assert longer_input.prefill_s >= base.prefill_s
    assert longer_input.gpu_s >= base.gpu_s
    assert longer_output.decode_s >= base.decode_s
    assert longer_output.prefill_s == base.prefill_s


@given(price=prices(), input_tokens=inputs, cached=inputs, more=inputs)
def test_a_longer_prefix_hit_never_makes_prefill_longer(
    price: Price, input_tokens: int, cached: int, more: int
) -> None:
    less_hit = price.prefill_s(input_tokens=input_tokens, cached_tokens=cached)
    more_hit = price.prefill_s(input_tokens=input_tokens, cached_tokens=cached + more)
    assert more_hit <= less_hit * (1 + 1e-9)


@given(new=st.integers(min_value=256, max_value=8192), cached=st.integers(min_value=0, max_value=100_000))
def test_a_prefix_hit_leaves_the_rectangle_of_pairs_to_compute(new: int, cached: int) -> None:
    price = analytic_price(LLAMA_8B, L40S)
    pair_s = step_model(LLAMA_8B, L40S).full_pair_s
    # A last chunk shorter than a tile takes a tile's time.
    short = new % 2048 if 0 < new % 2048 < 256 else 256
    pairs = prefill_pairs(new, cached) + (256 - short) * (cached + new - short)
    expected_s = new * price.prefill_token_s + pairs * pair_s
    assert price.prefill_s(input_tokens=cached + new, cached_tokens=cached) == pytest.approx(expected_s, rel=0.01)


@given(price=prices(), input_tokens=inputs)
def test_a_whole_prefix_hit_has_no_prefill(price: Price, input_tokens: int) -> None:
    assert price.weigh(input_tokens=input_tokens, cached_tokens=input_tokens, output=length(10)).prefill_s == 0.0


@given(price=prices(), input_tokens=inputs, cached=inputs, output=st.integers(min_value=1, max_value=8192))
def test_a_certain_prediction_weighs_what_is_used(price: Price, input_tokens: int, cached: int, output: int) -> None:
    predicted = price.weigh(input_tokens=input_tokens, cached_tokens=cached, output=length(output))
    assert predicted == price.used(input_tokens=input_tokens, cached_tokens=cached, output_tokens=output)


def test_kv_reads_of_uncertain_outputs_are_those_of_their_mean_square() -> None:
    price = analytic_price(LLAMA_8B, L40S)
    short = price.used(input_tokens=500, output_tokens=10).decode_kv_s
    long = price.used(input_tokens=500, output_tokens=1000).decode_kv_s
    either = OutputLength(mean=505.0, p50=10.0, p90=1000.0, mean_square=(10.0**2 + 1000.0**2) / 2)
    assert price.weigh(input_tokens=500, output=either).decode_kv_s == pytest.approx((short + long) / 2)


def test_an_output_of_one_token_has_no_decode() -> None:
    price = analytic_price(LLAMA_8B, L40S)
    assert price.used(input_tokens=1000, output_tokens=1).decode_s == 0.0


def test_kv_tokens_are_the_input_and_the_p90_of_the_output() -> None:
    price = analytic_price(LLAMA_8B, L40S)
    weight = price.weigh(input_tokens=1000, output=OutputLength(mean=200.0, p50=120.5, p90=430.2))
    assert weight.kv_tokens == 1431
    assert (weight.output_tokens_p50, weight.output_tokens_p90) == (120.5, 430.2)


def test_gpu_seconds_count_every_gpu_of_the_replica() -> None:
    price = analytic_price(MODELS["llama-3.1-70b"], ACCELERATORS["H100"], tensor_parallel=4)
    weight = price.used(input_tokens=1000, output_tokens=200)
    assert weight.gpu_s == pytest.approx(4 * (weight.prefill_s + weight.decode_s))
    assert weight.source is WeightSource.ANALYTIC


def test_a_prompt_alone_is_priced_near_the_time_that_its_prefill_takes() -> None:
    price = analytic_price(LLAMA_8B, L40S)
    alone_s = step_model(LLAMA_8B, L40S).time_s(
        prefill_tokens=2048, prefill_pairs=prefill_pairs(2048), decode_sequences=0, decode_kv_tokens=0
    )
    assert price.prefill_s(input_tokens=2048) == pytest.approx(alone_s, rel=0.15)


def test_a_long_prompt_costs_more_per_token_than_a_short_one() -> None:
    price = analytic_price(LLAMA_8B, L40S)
    assert price.prefill_s(input_tokens=100_000) / 100_000 > 2 * price.prefill_s(input_tokens=1000) / 1000


def test_windowed_layers_make_long_contexts_cheaper() -> None:
    price = analytic_price(MODELS["gpt-oss-20b"], L40S)
    one_window = price.decode_kv_s(input_tokens=128, output_tokens=2)
    assert price.decode_kv_s(input_tokens=12_800, output_tokens=2) < 60 * one_window


@pytest.mark.parametrize(
    "argument", ["planning_batch", "prefill_chunk_tokens", "mean_context_tokens", "mean_output_tokens"]
)
def test_a_mix_without_work_is_refused(argument: str) -> None:
    with pytest.raises(ValueError, match=argument):
        analytic_price(LLAMA_8B, L40S, **{argument: 0})


def test_an_l40s_takes_longer_than_an_h100_and_each_as_long_as_itself() -> None:
    l40s, h100 = analytic_price(LLAMA_8B, L40S), analytic_price(LLAMA_8B, ACCELERATORS["H100"])
    assert ratio_of(h100, l40s) > 1.5
    assert ratio_of(h100, l40s) * ratio_of(l40s, h100) == pytest.approx(1.0)
    assert ratio_of(l40s, l40s) == 1.0


def test_a_ratio_is_of_prefill_and_decode_together() -> None:
    l40s, h100 = analytic_price(LLAMA_8B, L40S), analytic_price(LLAMA_8B, ACCELERATORS["H100"])
    prefill = l40s.prefill_s(input_tokens=896) / h100.prefill_s(input_tokens=896)
    decode = l40s.decode_s(input_tokens=896, output_tokens=256) / h100.decode_s(input_tokens=896, output_tokens=256)
    assert min(prefill, decode) < ratio_of(h100, l40s) < max(prefill, decode)
