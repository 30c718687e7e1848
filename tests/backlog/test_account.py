"""Usages and charges add up, field by field."""

from hypothesis import given
from hypothesis import strategies as st

from backlog.account import NO_CHARGE, NO_USAGE, Charge, Usage

_count = st.integers(0, 2**40)
_whole = st.integers(0, 2**40).map(float)
usages = st.builds(
    Usage,
    requests=_count,
    input_tokens=_count,
    cached_tokens=_count,
    output_tokens=_count,
    prefill_gpu_s=_whole,
    decode_gpu_s=_whole,
    money=_whole,
)


@given(usages, usages)
def test_a_sum_has_the_sum_of_every_field(left: Usage, right: Usage) -> None:
    for field in Usage.__struct_fields__:
        assert getattr(left + right, field) == getattr(left, field) + getattr(right, field)
    assert (left + right).gpu_s == left.gpu_s + right.gpu_s


@given(usages)
def test_no_usage_adds_nothing(usage: Usage) -> None:
    assert NO_USAGE + usage == usage + NO_USAGE == usage


def test_a_charge_that_is_taken_back_leaves_nothing() -> None:
    assert Charge(1.5, 2.0) + Charge(0.5, 0.25) - Charge(2.0, 2.25) == NO_CHARGE
