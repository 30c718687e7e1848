"""KEDA's messages byte for byte, by the field numbers of its contract."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.keda import wire

# Field 1 "so", field 2 "ml", field 3 one entry {1: "pool", 2: "chat"}.
REF = b"\x0a\x02so\x12\x02ml\x1a\x0c\x0a\x04pool\x12\x04chat"


def test_a_scaled_object_is_read_by_its_field_numbers() -> None:
    expected = wire.ScaledObject(name="so", namespace="ml", metadata={"pool": "chat"})
    assert wire.scaled_object_from_bytes(REF) == expected


def test_a_query_holds_the_scaled_object_and_the_metric() -> None:
    asked = wire.metric_query_from_bytes(b"\x0a" + bytes([len(REF)]) + REF + b"\x12\x01m")
    assert asked == wire.MetricQuery(scaled_object=wire.scaled_object_from_bytes(REF), metric="m")


def test_fields_of_later_versions_are_skipped() -> None:
    assert wire.scaled_object_from_bytes(REF + b"\x4a\x03new").metadata == {"pool": "chat"}


def test_absent_fields_are_empty() -> None:
    assert wire.scaled_object_from_bytes(b"") == wire.ScaledObject(name="", namespace="", metadata={})


@pytest.mark.parametrize("raw", [b"\x0a\x05so", b"\xff", b"\x0a\x02\xff\xfe"], ids=["cut short", "noise", "no UTF-8"])
def test_bytes_that_are_no_message_are_malformed(raw: bytes) -> None:
    with pytest.raises(wire.Malformed):
        wire.scaled_object_from_bytes(raw)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        pytest.param(wire.bytes_from_active(True), b"\x08\x01", id="active"),
        pytest.param(wire.bytes_from_active(False), b"", id="inactive is the default"),
        pytest.param(
            wire.bytes_from_spec("m", 1.0),
            b"\x0a\x0e\x0a\x01m\x10\x01\x19\x00\x00\x00\x00\x00\x00\xf0\x3f",
            id="metric and target",
        ),
        pytest.param(
            wire.bytes_from_value("m", 3.0),
            b"\x0a\x0e\x0a\x01m\x10\x03\x19\x00\x00\x00\x00\x00\x00\x08\x40",
            id="metric and value",
        ),
        pytest.param(wire.bytes_from_value("m", 0.0), b"\x0a\x03\x0a\x01m", id="zero"),
    ],
)
def test_answers_have_the_bytes_of_the_contract(written: bytes, expected: bytes) -> None:
    assert written == expected


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_malformed(raw: bytes) -> None:
    try:
        found = wire.scaled_object_from_bytes(raw)
    except wire.Malformed:
        return
    assert isinstance(found.metadata, dict)
