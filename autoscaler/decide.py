"""`decide`: from an observation to the replicas that should run, as a list of steps. Pure: same input, same decision.

The order of the steps: law, trend, KV need, activation (their result is the recommendation); tolerance, warm-up,
window, down rate, up rate, cooldown (constraints); schedule, unschedulable, bounds; advisory. Without data the
recommendation and its constraints are replaced by a single `unknown` step, while somebody else's number is kept by a
single `override` step before the bounds, and in a paused pool by `paused` alone. The binding step is the last one that
changed the number; its reason is the headline.
"""

from dataclasses import dataclass, replace

from autoscaler import constraint
from autoscaler.calibrator import Calibration
from autoscaler.inputs import inputs_of
from autoscaler.law import StepName, recommend
from autoscaler.observation import Fleet, Known, Observation, Unknown, Work
from autoscaler.settings import AutoscalerSettings
from backlog.records import DecisionRecord, StepRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A number of replicas at an instant."""

    at_s: float
    replicas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionState:
    """What one decision leaves for the next. The default is the state of a new autoscaler."""

    data_since_s: float | None = None
    """Since when there has been data without a gap longer than `stale_after_s`."""
    last_known_at_s: float | None = None
    last_active_at_s: float | None = None
    last_down_at_s: float | None = None
    recommendations: tuple[Mark, ...] = ()
    """Within the window."""
    ups: tuple[Mark, ...] = ()
    """Replicas added, within the up period."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Replicas that should run and why. `recommended` is what was wanted before constraints."""

    desired: int
    recommended: int
    steps: tuple[StepRecord, ...]

    @property
    def binding(self) -> StepRecord:
        changed = [step for step in self.steps if step.before != step.after]
        return changed[-1] if changed else self.steps[0]

    @property
    def headline(self) -> str:
        return self.binding.reason


def decide(
    observation: Observation,
    state: DecisionState,
    settings: AutoscalerSettings,
    *,
    calibration: Calibration,
    now_s: float,
) -> tuple[Decision, DecisionState]:
    """The decision for now, and the state to hand to the next one."""
    fleet = observation.fleet
    steps: tuple[StepRecord, ...]
    match observation.work:
        case Unknown() as unknown:
            steps = (constraint.hold(fleet.desired, unknown, settings),)
            recommended = steps[-1].after
        case Known(value=work):
            state = _remember(state, observation, work, settings, now_s)
            wanted = recommend(work, observation, calibration, settings)
            recommended = wanted[-1].after
            state = _add_recommendation(state, recommended, settings, now_s)
            steps = (*wanted, *_constrain(recommended, observation, work, state, settings, now_s))
    override = constraint.respected(fleet.override, settings, now_s)
    if fleet.paused is not None:
        steps = (constraint.pause(fleet, fleet.paused),)
    elif override is not None:
        kept = constraint.keep_override(fleet.desired, override, settings)
        steps = (kept, constraint.bound(kept.after, settings))
    else:
        steps = (*steps, *_limit(steps[-1].after, observation, state, settings, now_s))
    return _close(steps, recommended, state, fleet, settings, now_s)


def _constrain(
    recommended: int,
    observation: Observation,
    work: Work,
    state: DecisionState,
    settings: AutoscalerSettings,
    now_s: float,
) -> tuple[StepRecord, ...]:
    present = observation.fleet.desired
    data_s = _data_s(state, now_s)
    doubt = constraint.doubt(observation, data_s, settings)
    idle_s = 0.0 if state.last_active_at_s is None else now_s - state.last_active_at_s
    highest = max((mark.replicas for mark in state.recommendations), default=recommended)
    added = sum(mark.replicas for mark in state.ups if mark.at_s > now_s - settings.up_period_s)

    tolerance = constraint.apply_tolerance(recommended, present, settings)
    warmup = constraint.apply_warmup(tolerance.after, present, doubt, data_s)
    window = constraint.apply_window(warmup.after, present, highest, settings)
    down_rate = constraint.limit_down(window.after, present, _last_down_age_s(state, now_s), settings)
    up_rate = constraint.limit_up(down_rate.after, present, added, settings)
    cooldown = constraint.apply_cooldown(up_rate.after, present, work, idle_s, settings)
    return (tolerance, warmup, window, down_rate, up_rate, cooldown)


def _data_s(state: DecisionState, now_s: float) -> float:
    return 0.0 if state.data_since_s is None else now_s - state.data_since_s


def _last_down_age_s(state: DecisionState, now_s: float) -> float | None:
    return None if state.last_down_at_s is None else now_s - state.last_down_at_s


def _limit(
    before: int, observation: Observation, state: DecisionState, settings: AutoscalerSettings, now_s: float
) -> tuple[StepRecord, ...]:
    """What holds whether the work is known or not."""
    fleet = observation.fleet
    last_down_age_s = _last_down_age_s(state, now_s)
    doubt = constraint.doubt(observation, _data_s(state, now_s), settings)
    schedule = constraint.apply_schedule(before, fleet.desired, last_down_age_s, doubt, settings, now_s)
    unschedulable = constraint.cap_unschedulable(schedule.after, fleet)
    return (schedule, unschedulable, constraint.bound(unschedulable.after, settings))


def _close(
    steps: tuple[StepRecord, ...],
    recommended: int,
    state: DecisionState,
    fleet: Fleet,
    settings: AutoscalerSettings,
    now_s: float,
) -> tuple[Decision, DecisionState]:
    """The mode, and what the change leaves in the state."""
    desired = steps[-1].after
    if settings.advisory:
        steps = (*steps, constraint.advise(desired))
    decision = Decision(desired=desired, recommended=recommended, steps=steps)
    change = desired - fleet.desired
    ups = tuple(mark for mark in state.ups if now_s - settings.up_period_s < mark.at_s <= now_s)
    if change > 0:
        ups = (*ups, Mark(at_s=now_s, replicas=change))
    last_down_at_s = now_s if change < 0 else state.last_down_at_s
    return decision, replace(state, last_down_at_s=last_down_at_s, ups=ups)


def _remember(
    state: DecisionState, observation: Observation, work: Work, settings: AutoscalerSettings, now_s: float
) -> DecisionState:
    """Note that there is data now, and whether the pool is in use. A gap in the data, or a clock set back, starts
    anew."""
    gap_s = None if state.last_known_at_s is None else now_s - state.last_known_at_s
    continuous = gap_s is not None and 0 <= gap_s <= max(settings.stale_after_s, 2 * settings.polling_s)
    active_at_s = [
        at_s
        for at_s in (state.last_active_at_s, observation.last_arrival_at_s, now_s if work.active else None)
        if at_s is not None and at_s <= now_s
    ]
    return replace(
        state,
        data_since_s=state.data_since_s if continuous else now_s,
        last_known_at_s=now_s,
        last_active_at_s=max(active_at_s, default=now_s),
    )


def _add_recommendation(
    state: DecisionState, recommended: int, settings: AutoscalerSettings, now_s: float
) -> DecisionState:
    recent = tuple(mark for mark in state.recommendations if now_s - settings.window_s < mark.at_s <= now_s)
    return replace(state, recommendations=(*recent, Mark(at_s=now_s, replicas=recommended)))


def record_from_decision(
    decision: Decision,
    observation: Observation,
    settings: AutoscalerSettings,
    *,
    cold_start_s: float | None,
    now_s: float,
) -> DecisionRecord:
    """The decision as it is published. A cold start that has not been measured is the configured one."""
    work = constraint.known_work(observation)
    load = observation.offered_load
    return DecisionRecord(
        pool=settings.pool,
        at_s=now_s,
        mode=StepName.ADVISORY if settings.advisory else "apply",
        desired=decision.desired,
        recommended=decision.recommended,
        ready=observation.fleet.ready,
        pending=observation.fleet.pending,
        draining=observation.fleet.draining,
        headline=decision.headline,
        steps=decision.steps,
        offered_load=load.value if isinstance(load, Known) else None,
        backlog_gpu_s=None if work is None else work.waiting_gpu_s,
        cold_start_s=settings.cold_start_s if cold_start_s is None else cold_start_s,
        inputs=inputs_of(observation),
    )
