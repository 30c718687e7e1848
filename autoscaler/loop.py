"""One pool's loop: observe, decide, apply, publish. The only file that knows their order.

It looks at the backlog every `wake_s`, lets the scaler move on, and publishes the replica list whenever Redis shows
another one (so a Redis that lost it gets it back at once). It decides every `polling_s`, and at once when something
waits at zero replicas. While the backlog cannot be read it holds, says so once, and goes on by itself.

Of several processes only the leader applies and publishes. The others observe and decide as it does, so that whichever
takes over knows what the one before it knew; it then decides at once.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

import structlog

from autoscaler.calibrator import Calibrator, SloCalibrator
from autoscaler.constraint import known_work
from autoscaler.decide import Decision, DecisionState, decide, record_from_decision
from autoscaler.follow import as_seen
from autoscaler.law import StepName
from autoscaler.observation import Observation, observe, observe_outage
from autoscaler.offered import History, advance
from autoscaler.recorder import Recorder
from autoscaler.scaler import Scaler, ScalingFailed
from autoscaler.settings import AutoscalerSettings
from autoscaler.stats import PoolStats
from backlog.keys import REPLICAS_TTL_S
from backlog.records import DecisionRecord, PoolView, StepRecord
from backlog.store import Backlog, BacklogUnavailable

RENEW_S = REPLICAS_TTL_S / 4
"""A list that has not changed is published again after this long."""
_log = structlog.get_logger("autoscaler")


def alone() -> bool:
    """`leads` of the only autoscaler there is."""
    return True


async def run_autoscaler(
    settings: AutoscalerSettings,
    backlog: Backlog,
    clock: Callable[[], float],
    stop_event: asyncio.Event,
    *,
    scaler: Scaler,
    calibrator: Calibrator | None = None,
    leads: Callable[[], bool] = alone,
    stats: PoolStats | None = None,
    recorder: Recorder | None = None,
) -> None:
    """Scale one pool until `stop_event`, then stop all that the scaler started.

    `leads` tells whether this process may write now; it is asked right before each write. `stats` is kept up to date.
    `recorder` gets every decision, a follower's too.
    Raises ValueError when `scaler` and `settings` disagree about being advisory.
    """
    loop = Autoscaler(
        settings,
        backlog,
        clock,
        scaler=scaler,
        calibrator=calibrator or SloCalibrator(settings),
        leads=leads,
        stats=stats or PoolStats(pool=settings.pool),
        recorder=recorder,
    )
    await loop.run(stop_event)


class Autoscaler:
    """The state of one pool's loop. `step` is one look; `run` repeats it."""

    def __init__(
        self,
        settings: AutoscalerSettings,
        backlog: Backlog,
        clock: Callable[[], float],
        *,
        scaler: Scaler,
        calibrator: Calibrator,
        leads: Callable[[], bool],
        stats: PoolStats,
        recorder: Recorder | None = None,
    ) -> None:
        if settings.advisory != scaler.advisory:
            raise ValueError(f"pool {settings.pool}: advisory={settings.advisory} needs a scaler of the same mode")
        self._settings = settings
        self._backlog = backlog
        self._clock = clock
        self._scaler = scaler
        self._calibrator = calibrator
        self._leads = leads
        self._stats = stats
        self._recorder = recorder
        self._history = History()
        self._state = DecisionState()
        self._started_at_s = clock()
        self._decided_at_s: float | None = None
        self._present: int | None = None
        self._kept_at_zero = False
        """The last decision left waiting work without a replica, on purpose: the next look need not ask again."""
        self._led = False
        self._outage_cause: str | None = None
        self._publish_failed = False
        self._published_at_s: float | None = None
        self._failing: set[str] = set()
        self._blind_since_s: float | None = None
        self._told_blind = False

    async def run(self, stop_event: asyncio.Event) -> None:
        try:
            while not stop_event.is_set():
                pause_s = self._settings.wake_s
                try:
                    await self.step()
                except Exception:
                    self._stats.failures["unexpected"] += 1
                    _log.exception("autoscaler step failed", pool=self._settings.pool)
                    pause_s = self._settings.polling_s
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await stop_event.wait()
        finally:
            await self._withdraw()
            await self._scaler.stop()

    async def step(self) -> None:
        """One look at the backlog and what follows from it."""
        timer = asyncio.get_running_loop().time
        began_at_s = timer()
        view = await self._read()
        now_s = self._clock()
        if view is not None:
            self._history = advance(self._history, view, keep_s=self._settings.history_s, now_s=now_s)
        leading, sees = self._leads(), self._sees(timer())
        took_over, self._led = leading and not self._led, leading and sees
        if leading:
            await self._carry_out("advance", self._scaler.advance(view))
        due = sees and (took_over or self._is_due(view, now_s))
        if due:
            await self._decide(view, now_s)
        if self._leads():
            records = self._scaler.records()
            renewal = due and (took_over or not self._renewed(now_s))
            if records is not None and (renewal or (view is not None and view.replicas != records)):
                await self._publish_replicas()
        ended_at_s = timer()
        self._stats.note_step(ended_at_s - began_at_s, ended_at_s)

    def _sees(self, at_s: float) -> bool:
        """Whether the scaler knows what there is. Warns once when it does not for a polling interval."""
        if self._scaler.known:
            if self._told_blind:
                _log.info("replicas are seen again", pool=self._settings.pool)
            self._blind_since_s, self._told_blind = None, False
            return True
        if self._blind_since_s is None:
            self._blind_since_s = at_s
        if not self._told_blind and at_s - self._blind_since_s >= self._settings.polling_s:
            self._told_blind = True
            cause = self._scaler.fleet().paused
            _log.warning("replicas are not seen, nothing is decided", pool=self._settings.pool, cause=cause)
        return False

    def _is_due(self, view: PoolView | None, now_s: float) -> bool:
        if self._decided_at_s is None or not 0 <= now_s - self._decided_at_s < self._settings.polling_s:
            return True
        if view is None or self._kept_at_zero or self._scaler.fleet().desired > 0:
            return False
        return any(seen.report.waiting > 0 and seen.age_s <= self._settings.stale_after_s for seen in view.reports)

    async def _decide(self, view: PoolView | None, now_s: float) -> None:
        self._decided_at_s = now_s
        observation = self._observe(view, now_s)
        calibration = self._calibrator.calibrate(observation, now_s)
        before = self._state
        decision, after = decide(observation, before, self._settings, calibration=calibration, now_s=now_s)
        work = known_work(observation)
        self._kept_at_zero = decision.desired == 0 and work is not None and work.waiting > 0
        previous, present = self._present, observation.fleet.desired
        self._present = present
        leading = self._leads()
        report = _log.info if leading and decision.desired != present else _log.debug
        report(
            "scaling decision",
            pool=self._settings.pool,
            present=present,
            desired=decision.desired,
            step=decision.binding.name,
            reason=decision.headline,
        )
        # Set before anything is awaited: a step that fails from here on must not decide on the state before.
        self._state = as_seen(before, after, previous=previous, present=present, now_s=now_s)
        applied = leading and await self._carry_out("apply", self._scaler.apply(decision.desired, view))
        if applied:
            self._state, self._present = after, decision.desired
        if self._recorder is not None:
            self._recorder.write(before, decision, observation, calibration, applied=applied, now_s=now_s)
        record = self._record(decision, observation, now_s)
        self._stats.note_decision(decision, record, observation)
        if applied and decision.desired != present:
            self._stats.changed = record
        if self._leads():
            await self._publish_decision(record)

    async def _carry_out(self, what: str, work: Awaitable[None]) -> bool:
        """Whether the scaler could do it. Warns once per row of failures."""
        pool = self._settings.pool
        try:
            await work
        except ScalingFailed as error:
            self._stats.failures[error.reason] += 1
            if what not in self._failing:
                _log.warning("scaling failed", pool=pool, what=what, reason=error.reason, cause=error.detail)
            self._failing.add(what)
            return False
        if what in self._failing:
            _log.info("scaling works again", pool=pool, what=what)
            self._failing.discard(what)
        return True

    def _record(self, decision: Decision, observation: Observation, now_s: float) -> DecisionRecord:
        cold_start_s = self._stats.cold_start_s = self._scaler.cold_start_s
        plan = self._scaler.plan(decision.desired)
        if plan is not None:
            desired = decision.desired
            placement = StepRecord(name=StepName.PLACEMENT, before=desired, after=desired, reason=plan)
            decision = replace(decision, steps=(*decision.steps, placement))
        return record_from_decision(decision, observation, self._settings, cold_start_s=cold_start_s, now_s=now_s)

    def _observe(self, view: PoolView | None, now_s: float) -> Observation:
        last_known_at_s = self._state.last_known_at_s
        known_age_s = max(0.0, now_s - (self._started_at_s if last_known_at_s is None else last_known_at_s))
        fleet = self._scaler.fleet()
        if view is None:
            cause = f"backlog unavailable: {self._outage_cause}"
            return observe_outage(cause, self._history, fleet, known_age_s=known_age_s)
        return observe(view, self._history, fleet, self._settings, known_age_s=known_age_s, now_s=now_s)

    async def _read(self) -> PoolView | None:
        try:
            view = await self._backlog.view(self._settings.pool)
        except BacklogUnavailable as error:
            if self._outage_cause is None:
                _log.warning("backlog unavailable, replicas are held", pool=self._settings.pool, cause=error.cause)
            self._outage_cause = error.cause
            return None
        self._stats.backlog_read = True
        if self._outage_cause is not None:
            _log.info("backlog available again", pool=self._settings.pool)
            self._outage_cause = None
        return view

    async def _publish_decision(self, record: DecisionRecord) -> None:
        try:
            await self._backlog.publish_decision(self._settings.pool, record)
        except BacklogUnavailable as error:
            self._note_publish_failure(error.cause)

    def _renewed(self, now_s: float) -> bool:
        """Whether the list in Redis is young enough to be left alone: it lives for `REPLICAS_TTL_S`."""
        return self._published_at_s is not None and 0 <= now_s - self._published_at_s < RENEW_S

    async def _publish_replicas(self) -> None:
        records = self._scaler.records()
        if records is None:
            return
        try:
            await self._backlog.publish_replicas(self._settings.pool, records)
        except BacklogUnavailable as error:
            self._note_publish_failure(error.cause)
        else:
            self._publish_failed = False
            self._published_at_s = self._clock()

    def _note_publish_failure(self, cause: str) -> None:
        """Warn once per row of failures, and not when the outage was reported already."""
        if not self._publish_failed and self._outage_cause is None:
            _log.warning("publishing failed", pool=self._settings.pool, cause=cause)
        self._publish_failed = True

    async def _withdraw(self) -> None:
        """Tell gateways that no replica is left before the replicas go. Replicas that stay are left on the list."""
        if not self._scaler.withdraws or not self._leads() or self._scaler.records() is None:
            return
        with suppress(BacklogUnavailable):
            await self._backlog.publish_replicas(self._settings.pool, ())
