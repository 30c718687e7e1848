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
        pytest.param(error("ConnectError"), True, Outcome.REPLICA_FAILED, id="no connection"),
        pytest.param(ConnectionRefusedError(), True, Outcome.REPLICA_FAILED, id="refused"),
        pytest.param(error("APIConnectionError", 500), False, Outcome.REPLICA_FAILED, id="broke, nobody knows when"),
        pytest.param(ConnectionResetError(), False, Outcome.REPLICA_FAILED, id="reset, after it was sent"),
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


def test_a_refused_connection_is_seen_through_what_was_made_of_it() -> None:
    made = error("InternalServerError", 500)
    made.__context__ = error("OpenAIError")
    made.__context__.__cause__ = error("ClientConnectorError")
    assert failure_of(made).unreachable


def test_the_attempt_before_is_not_looked_at() -> None:
    before = type("InternalServerError", (Exception,), {"__module__": "litellm.exceptions"})()
    before.__context__ = ConnectionRefusedError()
    made = error("InternalServerError", 500)
    made.__context__ = before
    assert not failure_of(made).unreachable
