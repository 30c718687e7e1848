import pytest

from benchmarks.load import WrkResult, wrk_result_from_output
from benchmarks.processes import BenchmarkFailed

OUTPUT = """Running 1s test @ http://127.0.0.1:1/v1/chat/completions
  1 threads and 32 connections
Requests/sec:  56649.22

wrk-result {"requests":%d,"duration_us":2000000,"p50_us":394,"p99_us":521,"not_ok":%d,"socket_errors":%d}
"""


def test_wrk_reports_requests_time_and_percentiles() -> None:
    assert wrk_result_from_output(OUTPUT % (5000, 0, 0)) == WrkResult(
        requests=5000, wall_s=2.0, p50_ms=0.394, p99_ms=0.521
    )


@pytest.mark.parametrize(
    "output",
    [
        pytest.param(OUTPUT % (5000, 1, 0), id="an error status"),
        pytest.param(OUTPUT % (5000, 0, 1), id="a failed socket"),
        pytest.param(OUTPUT % (0, 0, 0), id="no request answered"),
        pytest.param("unable to connect\n", id="no result line"),
        pytest.param("wrk-result nonsense\n", id="a result that is no JSON"),
    ],
)
def test_a_run_that_cannot_be_trusted_fails(output: str) -> None:
    with pytest.raises(BenchmarkFailed):
        wrk_result_from_output(output)
