"""The calibration file: what was measured, what was fitted, and for which replica it holds. JSON, versioned."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from estimator.accelerator import Accelerator
from estimator.architecture import Architecture
from estimator.calibrate_parts import (
    AS_PRICED,
    DecodePoint,
    Fitted,
    PartScalars,
    PrefillPoint,
    StepTime,
    decode_parts_s,
    fit,
    median_error_ratio,
    predicted_s,
    prefill_parts_s,
)
from estimator.choice import choose_step
from estimator.engine import Engine
from estimator.step import Step

VERSION = 1
MOST_BYTES = 10_000_000
LEAST_POINTS = 12
"""Fewer are no evidence: half of them is held out."""
HOLDS_FOR = ("model", "gpu", "tensor_parallel", "step")


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Median of |predicted / measured - 1| over the points that the check's fit has not seen; `None`: no points."""

    before: float | None
    after: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A fit of all points, and how well a fit of every other one did on the rest."""

    fitted: Fitted
    prefill: Errors
    decode: Errors


def step_of(
    architecture: Architecture, accelerator: Accelerator, *, tensor_parallel: int, engine: Engine = Engine.VLLM
) -> Step:
    """The step model that points are fitted against: what a pool of these is priced from. Raises ValueError."""
    return choose_step(architecture, accelerator, tensor_parallel=tensor_parallel, engine=engine).step


def fingerprint(step: StepTime) -> str:
    """Step models that agree on this are one for a fit: what was fitted against another one does not hold."""
    prefill = PrefillPoint(input_tokens=1024, cached_tokens=0, seconds=1.0)
    decode = DecodePoint(sequences=16, context_tokens=1024, seconds=1.0)
    parts_s = (*prefill_parts_s(step, prefill, chunk_tokens=2048), *decode_parts_s(step, decode))
    return " ".join(f"{part_s:.3g}" for part_s in parts_s)


def judge(step: StepTime, points: Sequence[PrefillPoint | DecodePoint], *, chunk_tokens: int) -> Result:
    """Fit, and check by halves. Raises `ValueError` for too few points."""
    if len(points) < LEAST_POINTS:
        raise ValueError(f"{len(points)} points are too few; a fit takes {LEAST_POINTS}")
    prefill = sorted((p for p in points if isinstance(p, PrefillPoint)), key=lambda p: (p.input_tokens, p.seconds))
    decode = sorted(
        (p for p in points if isinstance(p, DecodePoint)), key=lambda p: (p.sequences, p.context_tokens, p.seconds)
    )
    # A request's own overhead belongs to no price, so what was "before" knows it as well: only the parts differ.
    half = fit(step, prefill[::2], decode[::2], chunk_tokens=chunk_tokens)
    priced = Fitted(scalars=AS_PRICED, request_s=half.request_s)

    def errors(rest: Sequence[PrefillPoint | DecodePoint]) -> Errors:
        return Errors(
            before=median_error_ratio(rest, lambda point: predicted_s(step, point, priced, chunk_tokens=chunk_tokens)),
            after=median_error_ratio(rest, lambda point: predicted_s(step, point, half, chunk_tokens=chunk_tokens)),
        )

    return Result(
        fitted=fit(step, prefill, decode, chunk_tokens=chunk_tokens),
        prefill=errors(prefill[1::2]),
        decode=errors(decode[1::2]),
    )


def to_json(
    result: Result,
    points: Sequence[PrefillPoint | DecodePoint],
    step: StepTime,
    *,
    model: str,
    gpu: str,
    tensor_parallel: int,
    chunk_tokens: int,
    measured_at: str,
) -> str:
    """The file's text. `residual_ratio` of a point: predicted over measured, less 1, by the final fit."""
    rows = []
    for point in points:
        kind = "prefill" if isinstance(point, PrefillPoint) else "decode"
        residual = predicted_s(step, point, result.fitted, chunk_tokens=chunk_tokens) / point.seconds - 1.0
        rows.append({"kind": kind, **asdict(point), "residual_ratio": round(residual, 4)})
    document = {
        "version": VERSION,
        "model": model,
        "gpu": gpu,
        "tensor_parallel": tensor_parallel,
        "step": fingerprint(step),
        "measured_at": measured_at,
        "prefill_chunk_tokens": chunk_tokens,
        "scalars": asdict(result.fitted.scalars),
        "request_s": result.fitted.request_s,
        "errors": {"prefill": asdict(result.prefill), "decode": asdict(result.decode)},
        "points": rows,
    }
    return json.dumps(document, indent=1) + "\n"


def read_calibration(path: Path) -> dict[str, Any]:
    """What a configuration needs of the file at `path`: for what it holds, and its scalars. Raises ValueError."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or error}") from None
    if len(content) > MOST_BYTES:
        raise ValueError("is too large to be a calibration file")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError("is damaged: it is not JSON; measure again") from None
    if not isinstance(document, dict) or "version" not in document:
        raise ValueError("is not a calibration file: it has no version")
    if document["version"] != VERSION:
        raise ValueError(f"has version {document['version']!r}, and this release reads {VERSION}; measure again")
    check_calibration(document)
    return {name: document[name] for name in ("version", *HOLDS_FOR, "scalars")}


def check_calibration(document: dict[str, Any]) -> PartScalars:
    """The scalars of a document of this version. Raises ValueError that names what is damaged."""
    for name, kind in (("model", str), ("gpu", str), ("tensor_parallel", int), ("step", str), ("scalars", dict)):
        if not isinstance(document.get(name), kind):
            raise ValueError(f"is damaged: {name} is missing or not what it should be; measure again")
    names = {field.name for field in fields(PartScalars)}
    scalars = document["scalars"]
    if set(scalars) != names or not all(type(value) in (int, float) for value in scalars.values()):
        raise ValueError(f"is damaged: scalars must be the numbers {', '.join(sorted(names))}; measure again")
    try:
        return PartScalars(**scalars)
    except ValueError as error:
        raise ValueError(f"is damaged: {error}; measure again") from None
