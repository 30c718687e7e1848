import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backlog import codec
from backlog.records import DecisionRecord, ReplicaRecord, WorkerReport
from tests.backlog import samples


@given(samples.reports)
def test_a_report_survives_the_round_trip(report: WorkerReport) -> None:
    assert codec.decode_report("key", codec.encode_report(report)) == report


@given(st.lists(samples.replicas, max_size=4))
def test_a_replica_list_survives_the_round_trip(replicas: list[ReplicaRecord]) -> None:
    assert codec.decode_replicas("key", codec.encode_replicas(replicas)) == tuple(replicas)


@given(samples.decisions)
def test_a_decision_survives_the_round_trip(decision: DecisionRecord) -> None:
    assert codec.decode_decision("key", codec.encode_decision(decision)) == decision


def test_a_field_from_a_newer_version_is_ignored() -> None:
    report = samples.worker_report()
    newer = json.loads(codec.encode_report(report)) | {"field_of_tomorrow": {"deep": [1]}}
    assert codec.decode_report("key", json.dumps(newer)) == report


def test_a_field_that_an_older_version_does_not_write_takes_its_default() -> None:
    older = json.dumps({"worker": "w1", "started_at_s": 1.0}).encode()
    assert codec.decode_report("key", older) == WorkerReport(worker="w1", started_at_s=1.0)


@pytest.mark.parametrize("decode", [codec.decode_report, codec.decode_replicas, codec.decode_decision])
@given(
    raw=st.binary(max_size=60) | st.sampled_from([b"null", b"{}", b"[1]", b'{"worker":1}', b'{"worker":"w"', b"\xff"])
)
def test_bytes_that_are_no_record_raise_an_error_that_names_the_key(decode: Callable[..., Any], raw: bytes) -> None:
    if raw.strip() == b"[]":
        return
    with pytest.raises(codec.CorruptRecord, match=r"^wb:\{a\}:thing: ") as caught:
        decode("wb:{a}:thing", raw)
    assert caught.value.key == "wb:{a}:thing"


NOT_FINITE = pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])


@NOT_FINITE
@pytest.mark.parametrize(
    "name", ["started_at_s", "waiting_gpu_s", "waiting_prefill_s", "arrived_gpu_s", "oldest_waiting_at_s"]
)
def test_a_report_with_a_number_that_is_not_finite_is_refused(name: str, number: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        codec.encode_report(replace(samples.worker_report(), **{name: number}))


@NOT_FINITE
@pytest.mark.parametrize("name", ["prefill_s", "remaining_gpu_s"])
def test_a_share_with_a_number_that_is_not_finite_is_refused(name: str, number: float) -> None:
    report = samples.worker_report()
    running = {replica: replace(share, **{name: number}) for replica, share in report.running.items()}
    with pytest.raises(ValueError, match="finite"):
        codec.encode_report(replace(report, running=running))


@NOT_FINITE
@pytest.mark.parametrize("name", ["at_s", "offered_load", "backlog_gpu_s", "cold_start_s"])
def test_a_decision_with_a_number_that_is_not_finite_is_refused(name: str, number: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        codec.encode_decision(replace(samples.decision(), **{name: number}))


@NOT_FINITE
@pytest.mark.parametrize("name", ["created_at_s", "ready_at_s", "ratio"])
def test_a_replica_with_a_number_that_is_not_finite_is_refused(name: str, number: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        codec.encode_replicas([replace(samples.replica(), **{name: number})])


@pytest.mark.parametrize("ratio", [0.0, -1.0])
def test_a_replica_that_takes_no_time_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        codec.encode_replicas([replace(samples.replica(), ratio=ratio)])


def test_a_replica_of_an_older_publisher_has_the_gpu_of_its_pool() -> None:
    older = b'[{"name":"r0","url":"http://h:1","state":"ready","created_at_s":1.0}]'
    (found,) = codec.decode_replicas("key", older)
    assert (found.gpu, found.ratio) == (None, 1.0)
