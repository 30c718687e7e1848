"""Four scalars from measured points: found again when they are hidden in the points, whatever else is in them."""

from dataclasses import fields
from math import nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator.calibrate_parts import (
    AS_PRICED,
    DecodePoint,
    Fitted,
    PartScalars,
    PrefillPoint,
    calibrated,
    fit,
    median_error_ratio,
    predicted_s,
    prefill_parts_s,
)
from tests.estimator.measured_points import CHUNK, HIDDEN, PRICE, STEP, points


def values(scalars: PartScalars) -> list[float]:
    return [getattr(scalars, field.name) for field in fields(scalars)]


@pytest.mark.parametrize("request_s", [0.0, 0.02], ids=["no overhead", "20 ms per request"])
def test_hidden_scalars_are_found(request_s: float) -> None:
    found = fit(STEP, *points(HIDDEN, request_s), chunk_tokens=CHUNK)
    assert values(found.scalars) == pytest.approx(values(HIDDEN), rel=0.1)
    assert found.request_s == pytest.approx(request_s, abs=0.004)


def test_a_few_wild_points_change_little() -> None:
    prefill, decode = points(HIDDEN)
    wild = [*prefill, PrefillPoint(input_tokens=1024, cached_tokens=0, seconds=9.0)]
    late = [*decode, DecodePoint(sequences=4, context_tokens=1024, seconds=2.0)]
    found = fit(STEP, wild, late, chunk_tokens=CHUNK)
    assert values(found.scalars) == pytest.approx(values(HIDDEN), rel=0.15)


@given(st.lists(st.floats(0.5, 2.0), min_size=4, max_size=4))
def test_errors_fall_whatever_is_hidden(hidden: list[float]) -> None:
    prefill, decode = points(PartScalars(**dict(zip((f.name for f in fields(PartScalars)), hidden, strict=True))))
    found = fit(STEP, prefill[::2], decode[::2], chunk_tokens=CHUNK)
    before = Fitted(scalars=AS_PRICED, request_s=0.0)
    for rest in (prefill[1::2], decode[1::2]):
        errors = [
            median_error_ratio(rest, lambda point, by=by: predicted_s(STEP, point, by, chunk_tokens=CHUNK))  # type: ignore[misc]
            for by in (before, found)
        ]
        assert errors[1] <= max(errors[0], 0.03)


def test_parts_without_points_stay_as_priced_and_few_points_are_held_near_it() -> None:
    prefill, decode = points(HIDDEN)
    assert fit(STEP, [], [], chunk_tokens=CHUNK) == Fitted(scalars=AS_PRICED, request_s=0.0)
    only = fit(STEP, [], decode, chunk_tokens=CHUNK).scalars
    assert (only.prefill_linear, only.prefill_attention) == (1.0, 1.0)
    one = fit(STEP, prefill[:1], [], chunk_tokens=CHUNK)
    assert all(0.25 <= value <= 4.0 for value in values(one.scalars))
    assert median_error_ratio([], lambda _: 0.0) is None


def test_chunks_of_a_prompt_add_up_and_a_prefix_hit_removes_its_own() -> None:
    whole = prefill_parts_s(STEP, PrefillPoint(input_tokens=5000, cached_tokens=0, seconds=1.0), chunk_tokens=CHUNK)
    rest = prefill_parts_s(STEP, PrefillPoint(input_tokens=5000, cached_tokens=4096, seconds=1.0), chunk_tokens=CHUNK)
    first = prefill_parts_s(STEP, PrefillPoint(input_tokens=4096, cached_tokens=0, seconds=1.0), chunk_tokens=CHUNK)
    assert [a + b for a, b in zip(first, rest, strict=True)] == pytest.approx(list(whole))


@pytest.mark.parametrize("value", [nan, 0.0, -1.0, 0.24, 4.1])
def test_a_scalar_that_cannot_be_is_named(value: float) -> None:
    with pytest.raises(ValueError, match="decode_kv"):
        PartScalars(decode_kv=value)


def test_a_price_is_multiplied_part_by_part() -> None:
    assert calibrated(PRICE, AS_PRICED) is PRICE
    slow = calibrated(PRICE, PartScalars(prefill_linear=2.0, decode_shared=3.0))
    assert slow.prefill_s(input_tokens=1) == pytest.approx(2.0 * PRICE.prefill_s(input_tokens=1), rel=0.01)
    own = {"input_tokens": 900, "output_tokens": 200}
    assert slow.decode_kv_s(**own) == PRICE.decode_kv_s(**own)
    shared_s = PRICE.decode_s(**own) - PRICE.decode_kv_s(**own)
    assert slow.decode_s(**own) - slow.decode_kv_s(**own) == pytest.approx(3.0 * shared_s)
