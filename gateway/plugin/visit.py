"""A request that LiteLLM carries: scheduled here, sent by it, and told of by its hooks."""

import asyncio
from typing import TYPE_CHECKING, Any

from gateway import breaker
from gateway.openai import ParsedRequest
from gateway.outcome import Outcome, Refusal
from gateway.plugin.failure import Failure
from gateway.pool import Pool
from gateway.replica import Replica
from gateway.scheduled import Scheduled
from gateway.settings import TenantSettings
from gateway.usage import Usage

if TYPE_CHECKING:
    from gateway.context import Context


class Visit(Scheduled):
    """One call to one model group, over all attempts that LiteLLM makes. `task` is the one in which it makes them."""

    __slots__ = ("_output_tokens", "_placed", "_reported", "estimate_s", "failure", "model", "outcome", "settled_at_s",
                 "taken", "task", "verdict")  # fmt: skip

    def __init__(
        self,
        context: "Context",
        *,
        pool: Pool,
        parsed: ParsedRequest,
        payer: TenantSettings,
        priority: int,
        call_id: str,
        model: str,
        arrived_at_s: float,
        salt: int,
        task: asyncio.Task[Any] | None,
    ) -> None:
        super().__init__(
            context,
            pool=pool,
            parsed=parsed,
            payer=payer,
            priority=priority,
            request_id=call_id.encode(),
            arrived_at_s=arrived_at_s,
            salt=salt,
        )
        self.model = model
        self.task = task
        self.verdict: Refusal | None = None
        """Why it is not served. LiteLLM may ask again, and gets the same answer."""
        self.failure: Failure | None = None
        """How its last attempt failed."""
        self.outcome: Outcome | None = None
        self.taken = False
        """Somebody reads its stream."""
        self.settled_at_s: float | None = None
        self.estimate_s: float | None = None
        """The wait that was foreseen when it had to wait."""
        self._placed: asyncio.Future[Replica] | None = None
        self._reported: Usage | None = None
        self._output_tokens = 0

    async def place(self) -> Replica:
        """The replica to send it to, once there is one: on the first call, and after each attempt that failed.

        Raises `Refusal`. Cancelled, it gives up its seat.
        """
        if self.verdict is not None:
            raise self.verdict
        self._placed = asyncio.get_running_loop().create_future()
        if self.attempts == 0 and self.failure is None:
            try:
                self.admit()
            except Refusal as refusal:
                self.settled, self.verdict, self.outcome = True, refusal, refusal.outcome
                self.settled_at_s = self.context.clock()
                self.pool.stats.count(self.parsed.model, refusal.outcome.value)
                raise
        else:
            self.retry(self.context.clock())
        try:
            return await self._placed
        except asyncio.CancelledError:
            self.client_gone()
            raise

    # What LiteLLM tells of it

    def attempt_failed(self, failure: Failure) -> None:
        """An attempt ended before its first byte. Whether there is another is LiteLLM's decision."""
        self.failure = failure
        if self.flight is None or self.replica is None:
            return
        now_s = self.context.clock()
        self.attempts += 1
        self.pool.stats.retries += 1
        if failure.refused:
            self.replica.breaker = breaker.CLOSED
            self._land(now_s)
        else:
            self.found_full = failure.full
            self.failed(failure.cause, now_s, unreachable=failure.unreachable)
        self.pool.pump(now_s)

    def read(self, *, output: bool, usage: Usage | None) -> None:
        """An item of its stream."""
        if self.replica is not None and self.first_token_at_s is None:
            self.replica.breaker = breaker.CLOSED
        self._output_tokens += output
        if usage is not None:
            self._report(usage)
        if output:
            self.first_token(self.context.clock())

    def served(self, usage: Usage | None) -> None:
        """It has its whole answer."""
        if self.replica is not None and self.flight is not None:
            self.replica.breaker = breaker.CLOSED
        if usage is not None:
            self._report(usage)
        self.finish(Outcome.SERVED, self.context.clock())

    def _report(self, usage: Usage) -> None:
        """The Messages API tells the input at the start of a stream and the output at its end: counts only grow."""
        said = self._reported or usage
        self._reported = Usage(
            max(said.input_tokens, usage.input_tokens),
            max(said.output_tokens, usage.output_tokens),
            max(said.cached_tokens, usage.cached_tokens),
        )
        self._output_tokens = max(self._output_tokens, usage.output_tokens)

    def broke(self) -> None:
        """Its stream ended in an error."""
        now_s = self.context.clock()
        if self.replica is not None and self.flight is not None:
            self.replica.breaker = breaker.failed(self.replica.breaker, now_s, unreachable=False)
        self.finish(Outcome.REPLICA_BROKE, now_s)

    def given_up(self) -> None:
        """LiteLLM makes no further attempt."""
        outcome = Outcome.REPLICA_FAILED if self.failure is None else self.failure.outcome
        self.finish(outcome, self.context.clock())

    # `Scheduled`

    def carry(self, replica: Replica, now_s: float) -> None:
        self.failure = None  # of an attempt before
        if self._placed is not None and not self._placed.done():
            self._placed.set_result(replica)

    def let_go(self) -> None:
        """LiteLLM's connection is closed by whoever ended the request: its retry, its client, its own timeout."""

    def refused(self, refusal: Refusal) -> None:
        self.verdict = refusal
        if self._placed is not None and not self._placed.done():
            self._placed.set_exception(refusal)

    def waits(self) -> None:
        if self.seat is not None and self.seat.told is not None:
            self.estimate_s = self.seat.told.wait_s

    def finish(self, outcome: Outcome, now_s: float) -> None:
        if not self.settled:
            self.outcome, self.settled_at_s = outcome, now_s
        super().finish(outcome, now_s)

    @property
    def reported(self) -> Usage | None:
        known = self._reported is not None and self._reported.input_tokens > 0
        return self._reported if known else None

    @property
    def output_tokens(self) -> int:
        return self._output_tokens

    @property
    def ran(self) -> bool:
        return self.flight is not None
