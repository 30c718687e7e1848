"""One pool's loop: observe, decide, apply, publish. The only file that knows their order.

It looks at the backlog every `wake_s`, lets the scaler move on, and publishes the replica list whenever Redis shows
another one (so a Redis that lost it gets it back at once). It decides every `polling_s`, and at once when something
waits at zero replicas. While the backlog cannot be read it holds, says so once, and goes on by itself.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import structlog

from autoscaler.calibrator import Calibrator, SloCalibrator
from autoscaler.decide import DecisionState, decide, record_from_decision
from autoscaler.observation import Observation, observe, observe_outage
from autoscaler.offered import History, advance
from autoscaler.scaler import Scaler
from autoscaler.settings import AutoscalerSettings
from backlog.records import PoolView
from backlog.store import Backlog, BacklogUnavailable

_log = structlog.get_logger("autoscaler")


async def run_autoscaler(
    settings: AutoscalerSettings,
    backlog: Backlog,
    clock: Callable[[], float],
    stop_event: asyncio.Event,
    *,
    scaler: Scaler,
    calibrator: Calibrator | None = None,
) -> None:
    """Scale one pool until `stop_event`, then stop all that the scaler started.

    Raises ValueError when `scaler` and `settings` disagree about being advisory.
    """
    loop = Autoscaler(settings, backlog, clock, scaler=scaler, calibrator=calibrator or SloCalibrator(settings))
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
    ) -> None:
        if settings.advisory != scaler.advisory:
            raise ValueError(f"pool {settings.pool}: advisory={settings.advisory} needs a scaler of the same mode")
        self._settings = settings
        self._backlog = backlog
        self._clock = clock
        self._scaler = scaler
        self._calibrator = calibrator
        self._history = History()
        self._state = DecisionState()
        self._started_at_s = clock()
        self._decided_at_s: float | None = None
        self._outage_cause: str | None = None
        self._publish_failed = False

    async def run(self, stop_event: asyncio.Event) -> None:
        try:
            while not stop_event.is_set():
                pause_s = self._settings.wake_s
                try:
                    await self.step()
                except Exception:
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
        view = await self._read()
        now_s = self._clock()
        if view is not None:
            keep_s = max(self._settings.average_s, self._settings.miss_window_s)
            self._history = advance(self._history, view, keep_s=keep_s, now_s=now_s)
        await self._scaler.advance(view)
        due = self._is_due(view, now_s)
        if due:
            await self._decide(view, now_s)
        records = self._scaler.records()
        if records is not None and (due or (view is not None and view.replicas != records)):
            await self._publish_replicas()

    def _is_due(self, view: PoolView | None, now_s: float) -> bool:
        if self._decided_at_s is None or not 0 <= now_s - self._decided_at_s < self._settings.polling_s:
            return True
        if view is None or self._scaler.fleet().desired > 0:
            return False
        return any(seen.report.waiting > 0 and seen.age_s <= self._settings.stale_after_s for seen in view.reports)

    async def _decide(self, view: PoolView | None, now_s: float) -> None:
        self._decided_at_s = now_s
        observation = self._observe(view, now_s)
        calibration = self._calibrator.calibrate(observation, now_s)
        decision, self._state = decide(observation, self._state, self._settings, calibration=calibration, now_s=now_s)
        present = observation.fleet.desired
        report = _log.info if decision.desired != present else _log.debug
        report(
            "scaling decision",
            pool=self._settings.pool,
            present=present,
            desired=decision.desired,
            step=decision.binding.name,
            reason=decision.headline,
        )
        await self._scaler.apply(decision.desired, view)
        record = record_from_decision(
            decision, observation, self._settings, cold_start_s=self._scaler.cold_start_s, now_s=now_s
        )
        try:
            await self._backlog.publish_decision(self._settings.pool, record)
        except BacklogUnavailable as error:
            self._note_publish_failure(error.cause)

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
        if self._outage_cause is not None:
            _log.info("backlog available again", pool=self._settings.pool)
            self._outage_cause = None
        return view

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

    def _note_publish_failure(self, cause: str) -> None:
        """Warn once per row of failures, and not when the outage was reported already."""
        if not self._publish_failed and self._outage_cause is None:
            _log.warning("publishing failed", pool=self._settings.pool, cause=cause)
        self._publish_failed = True

    async def _withdraw(self) -> None:
        """Tell gateways that no replica is left before the replicas go."""
        if self._scaler.records() is None:
            return
        with suppress(BacklogUnavailable):
            await self._backlog.publish_replicas(self._settings.pool, ())
