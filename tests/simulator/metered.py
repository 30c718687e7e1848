"""A pool in front of one engine on virtual time: what it attributes, what it measures, what it learns."""

from collections.abc import Iterator

from backlog.records import WorkerId
from estimator.price import Price, fitting_batch
from estimator.step import StepModel
from gateway.calibration import Calibration, Meter
from gateway.pick import Load
from simulator.engine import Engine
from simulator.request import EngineRequest, EngineSettings, EventKind, RequestId

TICK_S = 0.02
PERIOD_S = 10.0
KV_TOKENS = 100_000
WORKER = WorkerId("w")


class SlowSteps:
    """Steps that take `factor` times as long as the model says."""

    def __init__(self, steps: StepModel, factor: float) -> None:
        self._steps = steps
        self._factor = factor

    def time_s(
        self, *, prefill_tokens: int, prefill_pairs: float, decode_sequences: int, decode_kv_tokens: int
    ) -> float:
        return self._factor * self._steps.time_s(
            prefill_tokens=prefill_tokens,
            prefill_pairs=prefill_pairs,
            decode_sequences=decode_sequences,
            decode_kv_tokens=decode_kv_tokens,
        )


class EngineReplica:
    """`gateway.calibration.Metered` over an engine: credits tokens as a gateway that streams them does."""

    def __init__(self, steps: SlowSteps, price: Price) -> None:
        self.name = "r0"
        self.gpu_ratio = 1.0
        self.meter = Meter()
        self.load = Load(name="r0")
        self.engine = Engine(EngineSettings(kv_tokens=KV_TOKENS, max_context_tokens=8192, prefix_cache=False), steps)
        self._price = price
        self._tokens: dict[RequestId, tuple[int, int]] = {}
        self._numbers = 0

    def submit(self, input_tokens: int, output_tokens: int, now_s: float) -> None:
        self._numbers += 1
        name = RequestId(str(self._numbers))
        asked = EngineRequest(request_id=name, input_tokens=input_tokens, output_tokens=output_tokens)
        assert self.engine.submit(asked, now_s) is None
        self._tokens[name] = (input_tokens, 0)
        self.load.in_flight += 1

    def step(self, now_s: float) -> float:
        result = self.engine.step(now_s)
        for event in result.events:
            inputs, outputs = self._tokens[event.request_id]
            if event.kind in (EventKind.FIRST_TOKEN, EventKind.TOKEN):
                self._tokens[event.request_id] = (inputs, outputs + 1)
            elif event.kind is EventKind.FINISHED:
                self.meter.settled_s += self._share_s(*self._tokens.pop(event.request_id))
                self.load.in_flight -= 1
        return result.duration_s

    def running_s(self) -> Iterator[float]:
        return (self._share_s(inputs, outputs) for inputs, outputs in self._tokens.values())

    def _share_s(self, inputs: int, outputs: int) -> float:
        if not outputs:
            return 0.0
        price = self._price
        return price.prefill_s(input_tokens=inputs) + price.decode_s(input_tokens=inputs, output_tokens=outputs)


def calibration_of(price: Price) -> Calibration:
    batch = fitting_batch(48, kv_tokens=KV_TOKENS)
    return Calibration(worker=WORKER, price=price, planning_batch=batch)


def run(replica: EngineReplica, calibration: Calibration, *, in_flight: int, duration_s: float) -> None:
    """Keep `in_flight` requests of the planning mix there, from 0 to `duration_s` of virtual time."""
    replicas = {replica.name: replica}
    now_s = ticked_at_s = 0.0
    learn_at_s = PERIOD_S
    sent = 0
    while now_s < duration_s:
        while replica.load.in_flight < in_flight:
            # Around the planning mix of 896 input and 256 output tokens, in a fixed and uneven order.
            replica.submit(448 + 128 * (sent * 5 % 8), 64 + 55 * (sent * 3 % 8), now_s)
            sent += 1
        now_s += replica.step(now_s)
        if now_s - ticked_at_s >= TICK_S:
            calibration.tick(replicas, now_s)
            ticked_at_s = now_s
        if now_s >= learn_at_s:
            calibration.learn(replicas)
            learn_at_s += PERIOD_S
