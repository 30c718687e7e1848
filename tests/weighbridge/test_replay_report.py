"""Streams, status samples, summaries and the table: values in, values out."""

import itertools
import json
from dataclasses import asdict, replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tests.weighbridge.prices import flat_price
from weighbridge.replay.record import Ending, RequestRecord
from weighbridge.replay.report import Replayed, Report, Slo
from weighbridge.replay.sender import SenderCounts
from weighbridge.replay.status import StatusSample, read_status
from weighbridge.replay.stream import StreamReader
from weighbridge.replay.summary import changes, percentiles, summarize
from weighbridge.replay.table import sparkline, table_of, write_json

PRICE = flat_price(prefill_token_s=0.001, decode_token_s=0.01, gpus=2)
TRANSCRIPT = (
    b": ping\n\n"
    b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}\n\n'
    b'data: {"choices":[{"index":0,"delta":{"content":"say \\"error\\": "},"finish_reason":null}]}\r\n\r\n'
    b'data: {"choices":[{"index":0,"delta":{"reasoning_content":"hm"}}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0}]}}]}\n\n'
    b'data: {"choices":[{"index":0,"text":"x","finish_reason":"length"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13}}\n\n'
    b"data: [DONE]\n\n"
)


@given(st.lists(st.integers(1, len(TRANSCRIPT) - 1), max_size=40))
def test_a_stream_reads_the_same_in_any_chunking(cuts: list[int]) -> None:
    reader = StreamReader()
    edges = [0, *sorted(set(cuts)), len(TRANSCRIPT)]
    tokens_seen = [reader.feed(TRANSCRIPT[low:high]) for low, high in itertools.pairwise(edges)]
    assert (reader.token_events, reader.finished, reader.done, reader.error) == (4, True, True, None)
    assert reader.usage is not None
    assert (reader.usage.prompt_tokens, reader.usage.completion_tokens, reader.usage.cached_tokens) == (9, 4, None)
    assert 1 <= sum(tokens_seen) <= 4


def test_the_role_event_is_not_the_first_token() -> None:
    reader = StreamReader()
    role, _, rest = TRANSCRIPT.partition(b"usage")
    assert not reader.feed(role)
    assert reader.feed(b"usage" + rest)


def record(index: int = 0, **fields: Any) -> RequestRecord:
    known = RequestRecord(
        index=index,
        input_tokens=100,
        output_tokens=11,
        scheduled_at_s=1.0,
        sent_at_s=1.0,
        first_token_at_s=1.5,
        last_token_at_s=2.5,
        ended_at_s=2.6,
        ending=Ending.COMPLETE,
        status=200,
        outcome="completed",
        replica="sim-1",
        queue_ms=20.0,
        predicted_gpu_s=0.3,
        used_input_tokens=100,
        used_output_tokens=11,
        token_events=11,
    )
    return replace(known, **fields)


LOST: dict[str, Any] = {
    "ending": Ending.HTTP_ERROR,
    "status": 503,
    "outcome": "evicted",
    "first_token_at_s": None,
    "last_token_at_s": None,
    "used_input_tokens": None,
    "used_output_tokens": None,
    "detail": "503: no replica",
}

STATUS = {
    "workers": 1,
    "pools": {
        "llama": {
            "models": ["m"],
            "waiting": 3,
            "waiting_gpu_s": 1.5,
            "offered_load": None,
            "replicas": [{"name": "a", "state": "ready"}, {"name": "b", "state": "starting"}, {"name": "c"}, 7],
            "ready": 1,
            "gpus_per_replica": 2,
            "price": asdict(PRICE),
            "decisions": [
                {"at_s": 9.0, "desired": 2, "ready": 1, "headline": "law: 1.2 erlangs", "offered_load": 1.2},
                {"at_s": 4.0, "desired": 1, "headline": "within bounds"},
                {"headline": "no instant"},
            ],
            "used_gpu_s": 5.0,
        },
        "other": {},
    },
}


def sample(at_s: float = 0.0, **pool: Any) -> StatusSample:
    status = {"pools": {"llama": STATUS["pools"]["llama"] | pool}}  # type: ignore[index]
    found = read_status(json.dumps(status).encode(), at_s=at_s)
    assert found is not None
    return found


def replayed(*records: RequestRecord, samples: tuple[StatusSample, ...] = (), **counts: int) -> Replayed:
    return Replayed(
        trace="t.csv",
        model="m",
        speed=2.0,
        seed=0,
        started_at_s=1e9,
        wall_s=60.0,
        records=records,
        counts=SenderCounts(**counts),
        samples=samples,
    )


def shown(report: Report) -> str:
    console = Console(width=160, record=True, file=StringIO())
    console.print(table_of(report))
    return console.export_text()


def test_streams_that_were_opened_while_they_waited_are_counted_beside_the_waits_that_are_known() -> None:
    early: dict[str, Any] = {"queue_ms": None, "outcome": None, "replica": None}
    report = summarize(replayed(record(), record(1, **early), record(2, **early), record(3, **LOST)), Slo())
    assert report.queue_s is not None
    assert (report.queue_s.count, report.opened_early) == (2, 2)
    assert "without 2 that waited" in shown(report)


def test_other_endpoints_and_refusals_opened_no_stream_early() -> None:
    elsewhere = record(queue_ms=None, outcome=None, replica=None, predicted_gpu_s=None)
    report = summarize(replayed(elsewhere, record(1, **LOST | {"queue_ms": None})), Slo())
    assert (report.queue_s, report.opened_early) == (None, 0)
    assert "without" not in shown(report)


def test_a_status_body_becomes_a_sample_and_what_is_absent_is_unknown() -> None:
    found = read_status(json.dumps(STATUS).encode(), at_s=2.0)
    assert found is not None
    llama = found.pool_of("m")
    assert llama is not None
    assert (llama.ready, llama.starting, llama.draining, llama.waiting, llama.offered_load) == (1, 1, 0, 3, None)
    assert llama.price == PRICE
    assert [(decision.desired, decision.ready) for decision in llama.decisions] == [(2, 1), (1, None)]
    other = found.pools[1]
    assert (other.ready, other.starting, other.waiting, other.price, other.decisions) == (None, None, None, None, ())
    assert found.pool_of("unheard-of") is None


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"null", b'"x"'])
def test_a_status_body_that_is_no_object_is_no_sample(body: bytes) -> None:
    assert read_status(body, at_s=0) is None


@given(st.recursive(st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(), st.lists))
def test_a_status_field_of_any_type_never_fails(value: Any) -> None:
    for name in STATUS["pools"]["llama"]:  # type: ignore[index]
        assert sample(**{name: value}).pools[0].pool == "llama"


def test_derived_times_count_from_the_send() -> None:
    late = record(scheduled_at_s=0.25)
    assert (late.lateness_s, late.ttft_s, late.e2e_s) == (0.75, 0.5, pytest.approx(1.6))
    assert late.tpot_s == pytest.approx(0.1)
    assert record(used_output_tokens=1).tpot_s is None
    assert record(used_output_tokens=None, token_events=3).tpot_s == pytest.approx(0.5)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300))
def test_percentiles_are_values_that_occurred_in_rising_order(values: list[float]) -> None:
    found = percentiles([*values, None])
    assert found is not None
    ranked = [found.p10, found.p50, found.p90, found.p95, found.p99, found.maximum]
    assert ranked == sorted(ranked)
    assert set(ranked) <= set(values)
    assert found.count == len(values)
    assert sum(value <= found.p90 for value in values) >= 0.9 * len(values)


def test_percentiles_of_nothing_are_unknown() -> None:
    assert percentiles([None, None]) is None


def test_attainment_counts_lost_requests_as_missed() -> None:
    records = [record(0), record(1, first_token_at_s=2.0), record(2, used_output_tokens=1), record(3, **LOST)]
    attainment = summarize(replayed(*records), Slo(ttft_s=0.6, tpot_s=0.09)).attainment
    assert (attainment.ttft_ratio, attainment.tpot_ratio, attainment.both_ratio) == (0.5, 0.5, 0.25)
    without = summarize(replayed(*records), Slo()).attainment
    assert (without.ttft_ratio, without.tpot_ratio, without.both_ratio) == (None, None, None)


def test_lost_requests_are_counted_by_ending_and_outcome() -> None:
    report = summarize(replayed(record(0), record(1, **LOST), record(2, **LOST)), Slo())
    assert (report.complete, report.lost, report.first_error) == (1, 2, "503: no replica")
    assert report.endings == {"http-error": 2, "complete": 1}
    assert report.outcomes == {"evicted": 2, "completed": 1}


def test_predicted_and_used_gpu_seconds_cover_the_same_requests() -> None:
    samples = (sample(0.0), sample(1.0, used_gpu_s=7.5))
    work = summarize(
        replayed(record(0), record(1, predicted_gpu_s=None), record(2, **LOST), samples=samples), Slo()
    ).work
    # Two GPUs for 100 x 1 ms of prefill and 10 x 10 ms of decode.
    assert (work.requests, work.predicted_gpu_s) == (1, 0.3)
    assert work.used_gpu_s == pytest.approx(0.4)
    assert work.error_ratio is not None
    assert work.error_ratio.p50 == pytest.approx(0.75)
    assert work.gateway_used_gpu_s == 2.5


def test_reserved_gpu_seconds_count_every_replica_that_existed() -> None:
    replicas = [{"state": "starting"}, {"state": "draining"}]
    samples = (sample(0.0, replicas=replicas), sample(2.0, replicas=[]), sample(5.0))
    # Three replicas for 2 s and one for 3 s, two GPUs each.
    assert summarize(replayed(samples=samples), Slo()).work.reserved_gpu_s == 18.0
    assert summarize(replayed(samples=(sample(0.0, replicas=None), sample(1.0))), Slo()).work.reserved_gpu_s is None


def test_without_a_price_used_gpu_seconds_are_unknown() -> None:
    work = summarize(replayed(record(0), record(1, **LOST)), Slo()).work
    assert (work.predicted_gpu_s, work.used_gpu_s, work.error_ratio, work.gateway_used_gpu_s) == (0.6, None, None, None)


def test_the_client_says_when_it_was_the_bottleneck() -> None:
    assert not summarize(replayed(record(0)), Slo()).client.bottleneck
    assert summarize(replayed(record(0), waited_for_connection=1), Slo()).client.bottleneck
    assert summarize(replayed(record(0, scheduled_at_s=0.5)), Slo()).client.bottleneck


def test_decisions_seen_in_several_samples_count_once_and_only_changes_are_listed() -> None:
    report = summarize(replayed(record(0), samples=(sample(0.0), sample(1.0))), Slo())
    assert [decision.at_s for decision in report.decisions] == [4.0, 9.0]
    assert [(before, after.desired) for before, after in changes(report.decisions)] == [(1, 2)]
    assert changes(()) == []


def test_a_replay_of_nothing_is_a_report_of_unknowns() -> None:
    report = summarize(replayed(), Slo(ttft_s=1))
    assert (report.requests, report.ttft_s, report.attainment.ttft_ratio) == (0, None, None)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        pytest.param([], "", id="nothing"),
        pytest.param([0, 0], "▁▁", id="zeros"),
        pytest.param([1, 2, 4], "▃▅█", id="shorter than the width"),
        pytest.param([0, 4, 1, 1, 0, 0], "█▃▁", id="peaks of spans"),
    ],
)
def test_a_sparkline_shows_the_peak_of_each_span(values: list[float], line: str) -> None:
    assert sparkline(values, 3) == line


def test_the_table_names_what_is_unknown_and_the_json_holds_everything(tmp_path: Path) -> None:
    slo = Slo(ttft_s=0.6)
    bare = summarize(replayed(record(0, outcome=None, used_input_tokens=None), record(1, **LOST)), slo)
    full = summarize(replayed(record(0), samples=(sample(),), waited_for_connection=4), slo)
    text = shown(bare) + shown(full)
    for expected in (
        "unknown used, unknown reserved",
        "503: no replica",
        "TTFT <= 0.6 s: 50.0%",
        "500.0 ms",
        "BOTTLENECK",
        "4 waited",
    ):
        assert expected in text
    write_json(full, tmp_path / "report.json")
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["ttft_s"]["p50"] == 0.5
    assert written["attainment"]["tpot_ratio"] is None
    assert written["fleet"][0]["ready"] == 1
    assert written["decisions"][1] == {
        "at_s": 9.0,
        "desired": 2,
        "ready": 1,
        "headline": "law: 1.2 erlangs",
        "offered_load": 1.2,
        "backlog_gpu_s": None,
    }
