"""A recorded vLLM run, and its replay on the simulated engine.

Arrivals, token counts and the KV cache are the run's own; step times are modeled. The recording has no texts: no two
requests share a prefix, but with a prefix cache a preempted one finds what is left of its own prompt.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from math import isfinite
from pathlib import Path
from typing import Any

from estimator.accelerator import Accelerator, find_accelerator
from estimator.architecture import Architecture
from estimator.models import find_model
from estimator.step import Step
from simulator.engine import Engine
from simulator.request import Completion, EngineRequest, EngineSettings, RequestId


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One request of a recorded run. Instants are seconds of the recording's clock."""

    request_id: RequestId
    input_tokens: int
    output_tokens: int
    queued_at_s: float
    scheduled_at_s: float
    first_token_at_s: float
    last_token_at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A recorded run; requests in order of arrival."""

    requests: Sequence[Recorded]
    settings: EngineSettings
    architecture: Architecture
    accelerator: Accelerator

    @property
    def busy_s(self) -> float:
        return max(row.last_token_at_s for row in self.requests) - self.requests[0].queued_at_s


def read_run(folder: Path) -> Run:
    """Raises `OSError` for a file that is not there, `ValueError` that names the file for what is wrong in one."""
    path = folder / "meta.json"
    try:
        meta = json.loads(path.read_bytes())
        model, device = meta["model"], meta["hardware"]["device_name"]
        limits, cache = meta["engine_kwargs"], meta["kv_cache"]
        settings = EngineSettings(
            kv_tokens=_number(cache, "num_kv_tokens"),
            max_context_tokens=_number(limits, "max_model_len"),
            max_batched_tokens=_number(limits, "max_num_batched_tokens"),
            max_sequences=_number(limits, "max_num_seqs"),
            prefix_cache=cache["enable_prefix_caching"],
        )
        architecture, accelerator = find_model(model), find_accelerator(device)
    except _DAMAGE as error:
        raise ValueError(f"{path}: {_what(error)}") from None
    if architecture is None or accelerator is None:
        raise ValueError(f"{path}: {model} on {device} is not registered")
    requests = _requests(folder / "requests.jsonl")
    return Run(requests=requests, settings=settings, architecture=architecture, accelerator=accelerator)


def replay(run: Run, step: Step) -> Mapping[str, Completion]:
    """The run's requests by their ids, as the simulated engine ends them."""
    engine = Engine(run.settings, step)
    done: dict[str, Completion] = {}
    waiting = list(reversed(run.requests))
    hashes = count()
    now_s = run.requests[0].queued_at_s
    while waiting or not engine.idle:
        if engine.idle:
            now_s = max(now_s, waiting[-1].queued_at_s)
        while waiting and waiting[-1].queued_at_s <= now_s:
            row = waiting.pop()
            asked = EngineRequest(
                request_id=row.request_id,
                input_tokens=row.input_tokens,
                output_tokens=row.output_tokens,
                prefix=tuple(islice(hashes, row.input_tokens // run.settings.block_tokens)),
            )
            rejection = engine.submit(asked, row.queued_at_s)
            if rejection is not None:
                raise ValueError(f"{row.request_id} was served in the run and is refused here: {rejection}")
        result = engine.step(now_s)
        now_s = result.ended_at_s
        done.update((completion.request_id, completion) for completion in result.completions)
    return done


LATENCIES: Mapping[str, tuple[Callable[[Completion], float], Callable[[Recorded], float]]] = {
    "TTFT": (
        lambda done: done.first_token_at_s - done.arrived_at_s,
        lambda row: row.first_token_at_s - row.queued_at_s,
    ),
    "TPOT": (
        lambda done: (done.finished_at_s - done.first_token_at_s) / max(1, done.output_tokens - 1),
        lambda row: (row.last_token_at_s - row.first_token_at_s) / max(1, row.output_tokens - 1),
    ),
    "end-to-end latency": (
        lambda done: done.finished_at_s - done.arrived_at_s,
        lambda row: row.last_token_at_s - row.queued_at_s,
    ),
}
"""Seconds of a simulated and of a recorded request."""


def percentile(values: Sequence[float], ratio: float) -> float:
    return sorted(values)[int(ratio * len(values))]


def latency_ratio(run: Run, done: Mapping[str, Completion], latency: str, ratio: float) -> float:
    """A percentile of the replay over the same of the recording."""
    of_simulated, of_recorded = LATENCIES[latency]
    simulated_s = percentile([of_simulated(one) for one in done.values()], ratio)
    return simulated_s / percentile([of_recorded(row) for row in run.requests], ratio)


def _requests(path: Path) -> Sequence[Recorded]:
    """In order of arrival, at least one."""
    found = []
    for line_number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            found.append(_recorded(json.loads(line)))
        except _DAMAGE as error:
            raise ValueError(f"{path}, line {line_number}: {_what(error)}") from None
    if not found:
        raise ValueError(f"{path}: has no requests")
    return sorted(found, key=lambda row: row.queued_at_s)


def _recorded(row: Mapping[str, Any]) -> Recorded:
    return Recorded(
        request_id=RequestId(row["request_id"]),
        input_tokens=_number(row, "input_toks"),
        output_tokens=_number(row, "output_toks"),
        queued_at_s=_number(row, "queued_ts"),
        scheduled_at_s=_number(row, "scheduled_ts"),
        first_token_at_s=_number(row, "first_token_ts"),
        last_token_at_s=_number(row, "last_token_ts"),
    )


_DAMAGE = (ValueError, KeyError, TypeError, AttributeError)
"""What JSON of another form raises while it is read."""


def _number(values: Mapping[str, Any], name: str) -> Any:
    value = values[name]
    if not isinstance(value, int | float) or not isfinite(value):
        raise ValueError(f"{name} is {value!r}, not a number")
    return value


def _what(error: Exception) -> str:
    match error:
        case KeyError(args=(name,)):
            return f"no {name}"
        case json.JSONDecodeError() | UnicodeDecodeError():
            return f"is not JSON: {error}"
        case ValueError():
            return str(error)
        case _:
            return "is not JSON of the form that a recording has"
