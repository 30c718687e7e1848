"""A pool on virtual time: simulated engines under the production order, pick and ledger. Equal input, equal output.

An event is an arrival, the end of an engine's step, or the moment that a tenant's pace or a wait bound falls due. After
each one the queue is dispatched as far as replicas have room, then idle engines begin their next step.
"""

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count

from benchmarks.order.dispatcher import Dispatcher
from benchmarks.order.setup import Job, PoolSetup
from simulator.engine import Engine
from simulator.request import EngineRequest, EventKind, RequestId, StepResult

STEPS_AT_ONCE = 10_000_000
"""More steps than any experiment takes: a world that does not end is a defect."""


@dataclass(slots=True, eq=False)
class Served:
    """What happened to one request. None has not happened before the run was ended."""

    job: Job
    used_prefill_s: float
    """Its weight at its true output length, in GPU-seconds like all of a one-GPU replica's."""
    used_decode_s: float
    priced_gpu_s: float = 0.0
    """What its tenant was charged when it was sent."""
    sent_at_s: float | None = None
    first_token_at_s: float | None = None
    finished_at_s: float | None = None

    @property
    def wait_s(self) -> float | None:
        return None if self.sent_at_s is None else self.sent_at_s - self.job.at_s

    @property
    def ttft_s(self) -> float | None:
        return None if self.first_token_at_s is None else self.first_token_at_s - self.job.at_s

    @property
    def tpot_s(self) -> float | None:
        """None for fewer than two output tokens."""
        if self.finished_at_s is None or self.first_token_at_s is None or self.job.output_tokens < 2:
            return None
        return (self.finished_at_s - self.first_token_at_s) / (self.job.output_tokens - 1)

    @property
    def used_gpu_s(self) -> float:
        return self.used_prefill_s + self.used_decode_s

    def charged_gpu_s(self, from_s: float, to_s: float) -> float:
        """What its tenant was charged in a window, with corrections: the price when sent, the difference at the end."""
        gpu_s = 0.0
        if self.sent_at_s is not None and from_s <= self.sent_at_s < to_s:
            gpu_s += self.priced_gpu_s
        if self.finished_at_s is not None and from_s <= self.finished_at_s < to_s:
            gpu_s += self.used_gpu_s - self.priced_gpu_s
        return gpu_s

    def received_gpu_s(self, from_s: float, to_s: float) -> float:
        """GPU-seconds that it was given in a window: its prefill at its first token, its decode evenly after it."""
        first_s, end_s = self.first_token_at_s, self.finished_at_s
        if first_s is None:
            return 0.0
        prefill_s = self.used_prefill_s if from_s <= first_s < to_s else 0.0
        if end_s is None or end_s <= first_s:
            return prefill_s
        inside_s = max(0.0, min(end_s, to_s) - max(first_s, from_s))
        return prefill_s + self.used_decode_s * inside_s / (end_s - first_s)


def run(
    setup: PoolSetup, jobs: Iterable[Job], *, until_s: float | None = None, only: Container[str] | None = None
) -> list[Served]:
    """Serve `jobs` to their end, or until `until_s`, or until all of the tenants in `only` have ended.

    In order of arrival.
    """
    return _World(setup, sorted(jobs, key=lambda job: (job.at_s, job.id))).run(until_s, only)


class _World:
    def __init__(self, setup: PoolSetup, jobs: Sequence[Job]) -> None:
        price = setup.hardware.price
        self._served: dict[str, Served] = {}
        for job in jobs:
            used = price.used(input_tokens=job.input_tokens, output_tokens=job.output_tokens)
            self._served[job.id] = Served(job, used.prefill_s * price.gpus, used.decode_s * price.gpus)
        self._engines = {
            f"r{index}": Engine(setup.hardware.engine, setup.hardware.steps) for index in range(setup.replicas)
        }
        self._stepping: set[str] = set()
        self._agenda: list[tuple[float, int, Callable[[float], None]]] = []
        self._numbers = count()
        self._dispatcher = Dispatcher(setup, list(self._engines), self._send, self._at)
        for job in jobs:
            self._at(job.at_s, lambda now_s, job=job: self._dispatcher.arrive(job, now_s))  # type: ignore[misc]

    def _at(self, at_s: float, what: Callable[[float], None]) -> None:
        heappush(self._agenda, (at_s, next(self._numbers), what))

    def run(self, until_s: float | None, only: Container[str] | None) -> list[Served]:
        self._only = only
        self._open = sum(self._counts(served) for served in self._served.values())
        for _ in range(STEPS_AT_ONCE):
            if not self._agenda or not self._open or (until_s is not None and self._agenda[0][0] > until_s):
                return list(self._served.values())
            now_s, _, what = heappop(self._agenda)
            what(now_s)
            self._dispatcher.dispatch(now_s)
            for name, engine in self._engines.items():
                if name not in self._stepping and not engine.idle:
                    self._step(name, engine, now_s)
        raise AssertionError("the simulated pool does not come to an end")

    def _counts(self, served: Served) -> bool:
        return self._only is None or served.job.tenant in self._only

    def _send(self, job: Job, replica: str, gpu_s: float, now_s: float) -> None:
        request = EngineRequest(
            request_id=RequestId(job.id), input_tokens=job.input_tokens, output_tokens=job.output_tokens
        )
        rejection = self._engines[replica].submit(request, now_s)
        assert rejection is None, f"{job.id}: {rejection}"
        served = self._served[job.id]
        served.sent_at_s, served.priced_gpu_s = now_s, gpu_s

    def _step(self, name: str, engine: Engine, now_s: float) -> None:
        result = engine.step(now_s)
        if result.duration_s <= 0.0:
            # All running sequences were preempted; the next step starts them again.
            result = engine.step(now_s)
        self._stepping.add(name)
        self._at(result.ended_at_s, lambda _: self._stepped(name, result))

    def _stepped(self, name: str, result: StepResult) -> None:
        self._stepping.discard(name)
        now_s = result.ended_at_s
        for event in result.events:
            if event.kind is EventKind.FIRST_TOKEN:
                self._served[event.request_id].first_token_at_s = now_s
                self._dispatcher.first_token(event.request_id, now_s)
            elif event.kind is EventKind.FINISHED:
                served = self._served[event.request_id]
                served.finished_at_s = now_s
                self._open -= self._counts(served)
                self._dispatcher.settle(event.request_id, now_s)
