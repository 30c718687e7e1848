"""Records to bytes and back: JSON, so that an operator can read it with `redis-cli`.

Readers ignore fields they do not know and fill fields that are absent from the record's defaults, so gateways and
autoscalers of neighbouring versions can share a Redis.
"""

from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Any, TypeVar

import msgspec

from backlog.records import CalibrationRecord, DecisionRecord, ReplicaRecord, SeenReport, WorkerReport

Record = TypeVar("Record")

_encoder = msgspec.json.Encoder()
_report_decoder = msgspec.json.Decoder(WorkerReport)
_replicas_decoder = msgspec.json.Decoder(tuple[ReplicaRecord, ...])
_decision_decoder = msgspec.json.Decoder(DecisionRecord)
_calibration_decoder = msgspec.json.Decoder(CalibrationRecord)


class CorruptRecord(Exception):
    """A key holds bytes that are not the record it should hold. `key` names it."""

    def __init__(self, key: str, detail: str) -> None:
        super().__init__(f"{key}: {detail}")
        self.key = key
        self.detail = detail


def encode_report(report: WorkerReport) -> bytes:
    """Raises ValueError for a number that is not finite: JSON has none, and a reader would take it for unknown."""
    total = report.started_at_s + report.waiting_gpu_s + report.waiting_prefill_s + report.arrived_gpu_s
    total += sum(report.attributed_s.values())
    for share in report.running.values():
        total += share.prefill_s + share.remaining_gpu_s
    _require_finite("report", total, report.oldest_waiting_at_s)
    return _encoder.encode(report)


def encode_replicas(replicas: Sequence[ReplicaRecord]) -> bytes:
    """Raises ValueError for a number that is not finite, and for a ratio that is not above 0."""
    for replica in replicas:
        _require_finite("replica", replica.created_at_s, replica.ready_at_s, replica.ratio)
        if replica.ratio <= 0.0:
            raise ValueError(f"replica {replica.name}: ratio {replica.ratio} must be above 0")
    return _encoder.encode(tuple(replicas))


def encode_decision(decision: DecisionRecord) -> bytes:
    """Raises ValueError for a number that is not finite."""
    measured = (decision.offered_load, decision.backlog_gpu_s, decision.cold_start_s)
    _require_finite("decision", decision.at_s, *measured, *(read.age_s for read in decision.inputs))
    return _encoder.encode(decision)


def encode_calibration(calibration: CalibrationRecord) -> bytes:
    """Raises ValueError for a number that is not finite."""
    for scalar in calibration.replicas.values():
        _require_finite("calibration", scalar.log_ratio, scalar.quick_log_ratio)
    return _encoder.encode(calibration)


def decode_report(key: str, raw: bytes | str) -> WorkerReport:
    """Raises CorruptRecord."""
    return _decode(_report_decoder, key, raw)


def seen_reports(stem: str, flat: Sequence[Any]) -> Iterator[SeenReport]:
    """From worker id, report and age in microseconds, in turn; `stem` is the key of a report without the id.

    Raises CorruptRecord.
    """
    for worker, raw, age_us in zip(flat[::3], flat[1::3], flat[2::3], strict=True):
        name = worker.decode(errors="replace") if isinstance(worker, bytes) else worker
        yield SeenReport(report=decode_report(stem + name, raw), age_s=age_us / 1e6)


def decode_replicas(key: str, raw: bytes | str) -> tuple[ReplicaRecord, ...]:
    """Raises CorruptRecord."""
    return _decode(_replicas_decoder, key, raw)


def decode_decision(key: str, raw: bytes | str) -> DecisionRecord:
    """Raises CorruptRecord."""
    return _decode(_decision_decoder, key, raw)


def decode_calibration(key: str, raw: bytes | str) -> CalibrationRecord:
    """Raises CorruptRecord."""
    return _decode(_calibration_decoder, key, raw)


def _decode(decoder: "msgspec.json.Decoder[Record]", key: str, raw: bytes | str) -> Record:
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptRecord(key, str(error)) from error


def _require_finite(what: str, *numbers: float | None) -> None:
    if not all(number is None or isfinite(number) for number in numbers):
        raise ValueError(f"a {what} must hold finite numbers only")
