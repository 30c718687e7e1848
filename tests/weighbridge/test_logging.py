"""Log lines: one each, structured, without secrets."""

import io
import json
from collections.abc import Iterator

import pytest
import structlog

from weighbridge.logging import REDACTED_FIELDS, configure, redact


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    yield
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_the_process() -> None:
    out = io.StringIO()
    configure("gateway", stream=out)
    structlog.get_logger("x").info("request settled", pool="chat")
    (line,) = lines(out)
    assert (line["event"], line["process"], line["pool"], line["level"]) == (
        "request settled",
        "gateway",
        "chat",
        "info",
    )


def test_lines_below_the_level_are_not_written() -> None:
    out = io.StringIO()
    configure("gateway", level="warning", stream=out)
    structlog.get_logger("x").info("request settled")
    assert out.getvalue() == ""


@pytest.mark.parametrize("field", sorted(REDACTED_FIELDS))
def test_a_secret_field_is_redacted_in_any_case_and_depth(field: str) -> None:
    event = redact(None, "info", {"event": "e", field.upper(): "hush", "inner": {field: "hush"}})
    assert "hush" not in str(event)


def test_an_exception_is_part_of_its_line() -> None:
    out = io.StringIO()
    configure("autoscaler", stream=out)
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger("x").exception("step failed")
    (line,) = lines(out)
    assert "broken" in str(line["exception"])
