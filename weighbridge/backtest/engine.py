"""A model server's scheduler on virtual time, many decode steps at once. Pure.

The order of `simulator.engine` (decodes, the prompt that is under way, waiting requests first come first served;
preemption from the young end), without block tables, prefix cache and events per token. Between two changes of the
batch every step decodes the same sequences, so such a stretch is one event: its steps take as long as the middle one.
A request that arrives during a stretch ends it at the next step.

KV is counted in tokens; each sequence holds half a block more than it has, which is what it wastes on average.
"""

from collections import deque
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from math import ceil, inf

from simulator.request import EngineSettings, StepClock

LONGEST_STRETCH = 400
"""Steps of one event. Reads grow linearly with the context, so the middle step is a good mean for longer ones too."""


@dataclass(slots=True, eq=False)
class Job:
    """One request on a replica. Instants are seconds of the simulation; `inf` until they are known."""

    input_tokens: int
    output_tokens: int
    """At least 1."""
    arrived_at_s: float
    first_token_at_s: float = inf
    finished_at_s: float = inf
    produced: int = 0
    """Output tokens that it had when its present prefill began: more than 0 after a preemption only."""
    number: int = 0
    """By time of entering the batch: the highest is preempted first."""


@dataclass(slots=True)
class Stretch:
    """Equal steps that are under way, and what they complete."""

    began_at_s: float = 0.0
    steps: int = 0
    step_s: float = 0.0
    prefilled: list[Job] = field(default_factory=list)


class LeanEngine:
    """Requests in, first tokens and endings out. `ends_at_s` is when to call `advance`; `inf` while it is idle."""

    __slots__ = (
        "_capacity",
        "_decodes",
        "_kv_decode",
        "_kv_used",
        "_numbers",
        "_partial",
        "_partial_done",
        "_settings",
        "_step_no",
        "_steps",
        "_stretch",
        "_waiting",
        "_waste",
        "busy_s",
        "ends_at_s",
        "preemptions",
    )

    def __init__(self, settings: EngineSettings, steps: StepClock) -> None:
        self._settings = settings
        self._steps = steps
        self._capacity = settings.kv_blocks * settings.block_tokens
        self._waste = settings.block_tokens // 2
        self._waiting: deque[Job] = deque()
        self._decodes: list[tuple[int, int, Job]] = []
        """Heap of (step after which it ends, number, job)."""
        self._partial: Job | None = None
        self._partial_done = 0
        self._step_no = 0
        self._kv_decode = 0
        """Contexts of the decoding sequences, tokens that are being produced included."""
        self._kv_used = 0
        self._numbers = 0
        self._stretch = Stretch()
        self.ends_at_s = inf
        self.busy_s = 0.0
        self.preemptions = 0

    @property
    def waiting(self) -> int:
        """Requests that are here and not in the batch."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        return len(self._decodes) + len(self._stretch.prefilled) + (self._partial is not None)

    @property
    def held_tokens(self) -> int:
        """KV tokens of what runs, with what it wastes."""
        return self._kv_used

    def submit(self, job: Job, now_s: float) -> None:
        """Take a request. It must fit the KV cache alone: `input + output` within `max_context_tokens`."""
        self._waiting.append(job)
        if self.ends_at_s == inf:
            self._form(now_s)
            return
        stretch = self._stretch
        if stretch.steps > 1 and len(self._waiting) == 1 and self._fits(job):
            steps = max(1, ceil((now_s - stretch.began_at_s) / stretch.step_s))
            if steps < stretch.steps:
                stretch.steps = steps
                self.ends_at_s = stretch.began_at_s + steps * stretch.step_s

    def advance(self, now_s: float) -> tuple[list[Job], list[Job]]:
        """End the steps under way at `now_s` = `ends_at_s` and begin the next; who got a first token, who ended.

        A request that ends with its first token is in both lists.
        """
        stretch, decodes = self._stretch, self._decodes
        self.busy_s += now_s - stretch.began_at_s
        grown = len(decodes) * stretch.steps
        self._step_no += stretch.steps
        self._kv_decode += grown
        self._kv_used += grown
        first: list[Job] = []
        ended: list[Job] = []
        while decodes and decodes[0][0] <= self._step_no:
            job = heappop(decodes)[2]
            self._kv_decode -= job.input_tokens + job.output_tokens
            self._end(job, now_s, ended)
        for job in stretch.prefilled:
            if job.first_token_at_s == inf:
                job.first_token_at_s = now_s
                first.append(job)
            job.produced += 1
            self._kv_used += 1
            if job.produced >= job.output_tokens:
                self._end(job, now_s, ended)
            else:
                heappush(decodes, (self._step_no + job.output_tokens - job.produced, job.number, job))
                self._kv_decode += job.input_tokens + job.produced
        self._form(now_s)
        return first, ended

    def _end(self, job: Job, now_s: float, ended: list[Job]) -> None:
        job.finished_at_s = now_s
        self._kv_used -= job.input_tokens + job.output_tokens + self._waste
        ended.append(job)

    def _fits(self, job: Job) -> bool:
        """Whether a waiting request may enter the batch, its whole prompt held."""
        if len(self._decodes) >= self._settings.max_sequences:
            return False
        return self._kv_used + job.input_tokens + job.produced + self._waste <= self._capacity

    def _form(self, now_s: float) -> None:
        """Begin the next step, or the steps until the batch changes."""
        decodes = self._decodes
        preempted = False
        while self._kv_used > self._capacity and len(decodes) + (self._partial is not None) > 1:
            self._preempt()
            preempted = True
        count = len(decodes)
        budget = self._settings.max_batched_tokens - count
        prefilled: list[Job] = []
        tokens, pairs = 0, 0.0
        job = self._partial
        while budget > 0:
            if job is None:
                # As in `simulator.engine`: after a preemption nobody enters in the same step.
                if preempted or not self._waiting or count + len(prefilled) >= self._settings.max_sequences:
                    break
                if (count or prefilled) and not self._fits(self._waiting[0]):
                    break
                job = self._waiting.popleft()
                self._numbers += 1
                job.number = self._numbers
                self._kv_used += job.input_tokens + job.produced + self._waste
                self._partial_done = 0
            missing = job.input_tokens + job.produced - self._partial_done
            chunk = min(missing, budget)
            pairs += chunk * (self._partial_done + 0.5 * (chunk + 1))
            tokens += chunk
            budget -= chunk
            self._partial_done += chunk
            if chunk == missing:
                prefilled.append(job)
                job = None
        self._partial = job
        if not tokens and not count:
            self._stretch = Stretch()
            self.ends_at_s = inf
            return
        steps, kv_tokens = 1, float(self._kv_decode)
        if not tokens:
            room = (self._capacity - self._kv_used) // count + 1
            steps = max(1, min(decodes[0][0] - self._step_no, room, LONGEST_STRETCH))
            kv_tokens += 0.5 * count * (steps - 1)
        step_s = self._steps.time_s(
            prefill_tokens=tokens, prefill_pairs=pairs, decode_sequences=count, decode_kv_tokens=int(kv_tokens)
        )
        self._stretch = Stretch(began_at_s=now_s, steps=steps, step_s=step_s, prefilled=prefilled)
        self.ends_at_s = now_s + steps * step_s

    def _preempt(self) -> None:
        """The youngest sequence loses its KV and goes back to the head of those that wait."""
        job = self._partial
        if job is not None:
            self._partial = None
        else:
            youngest = max(self._decodes, key=_number)
            self._decodes.remove(youngest)
            heapify(self._decodes)
            job = youngest[2]
            job.produced = job.output_tokens - (youngest[0] - self._step_no)
            self._kv_decode -= job.input_tokens + job.produced
        self._kv_used -= job.input_tokens + job.produced + self._waste
        self._waiting.appendleft(job)
        self.preemptions += 1


def _number(entry: tuple[int, int, Job]) -> int:
    return entry[1]
