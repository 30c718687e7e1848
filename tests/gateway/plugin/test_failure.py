"""What an exception of LiteLLM says about a replica."""

import pytest

from gateway.outcome import Outcome
from gateway.plugin.failure import failure_of


def error(name: str, status: int | None = None) -> Exception:
    exception: Exception = type(name, (Exception,), {})("the prompt: tell nobody")
    if status is not None:
        exception.status_code = status  # type: ignore[attr-defined]
    return exception


@pytest.mark.parametrize(
    ("exception", "unreachable", "outcome"),
    [
        pytest.param(error("APIConnectionError", 500), True, Outcome.REPLICA_FAILED, id="no connection"),
        pytest.param(ConnectionResetError(), True, Outcome.REPLICA_FAILED, id="reset"),
        pytest.param(error("RateLimitError", 429), True, Outcome.REPLICA_FULL, id="full"),
        pytest.param(error("ServiceUnavailableError", 503), True, Outcome.REPLICA_FULL, id="overloaded"),
        pytest.param(error("InternalServerError", 500), False, Outcome.REPLICA_FAILED, id="broken"),
        pytest.param(error("Timeout", 408), False, Outcome.REPLICA_FAILED, id="too slow"),
        pytest.param(error("BadRequestError", 400), False, Outcome.REPLICA_REFUSED, id="a bad request"),
        pytest.param(error("NotFoundError", 404), False, Outcome.REPLICA_REFUSED, id="no such model there"),
        pytest.param(RuntimeError(), False, Outcome.REPLICA_FAILED, id="anything else"),
    ],
)
def test_an_exception_as_a_failure(exception: Exception, unreachable: bool, outcome: Outcome) -> None:
    failure = failure_of(exception)
    assert (failure.unreachable, failure.outcome) == (unreachable, outcome)
    assert "prompt" not in failure.cause
