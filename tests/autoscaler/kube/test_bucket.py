"""The rate of requests is bounded, and nobody is overtaken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.kube.bucket import TokenBucket


def test_a_burst_passes_at_once_and_the_next_waits_for_its_token() -> None:
    bucket = TokenBucket(rate_per_s=2.0, burst=3.0)
    assert [bucket.take(10.0) for _ in range(5)] == [0.0, 0.0, 0.0, 0.5, 1.0]


def test_tokens_flow_in_up_to_the_burst() -> None:
    bucket = TokenBucket(rate_per_s=2.0, burst=2.0)
    assert [bucket.take(0.0) for _ in range(2)] == [0.0, 0.0]
    assert [bucket.take(100.0) for _ in range(3)] == [0.0, 0.0, 0.5]


def test_a_token_that_was_not_used_goes_to_the_next() -> None:
    bucket = TokenBucket(rate_per_s=1.0, burst=1.0)
    bucket.take(0.0)
    bucket.give_back()
    assert bucket.take(0.0) == 0.0


def test_an_unused_bucket_does_not_overflow() -> None:
    bucket = TokenBucket(rate_per_s=1.0, burst=1.0)
    bucket.give_back()
    assert [bucket.take(0.0), bucket.take(0.0)] == [0.0, 1.0]


@given(
    gaps_s=st.lists(st.floats(-1.0, 3.0), min_size=1, max_size=60),
    rate_per_s=st.sampled_from([0.5, 1.0, 7.0]),
    burst=st.sampled_from([1.0, 4.0]),
)
def test_no_span_of_time_sees_more_than_rate_and_burst_allow(
    gaps_s: list[float], rate_per_s: float, burst: float
) -> None:
    bucket = TokenBucket(rate_per_s=rate_per_s, burst=burst)
    now_s, latest_s, served = 0.0, 0.0, []
    for gap_s in gaps_s:
        now_s += gap_s
        latest_s = max(latest_s, now_s)
        served.append(latest_s + bucket.take(now_s))
    for first, start_s in enumerate(served):
        for last in range(first, len(served)):
            allowed = burst + rate_per_s * (served[last] - start_s)
            assert last - first + 1 <= allowed + 1e-6
    assert served == sorted(served) or served == pytest.approx(sorted(served))
