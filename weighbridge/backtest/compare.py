"""Rules by name and knob on one scene; and the cheapest knob that holds the goal, for those that have one."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from weighbridge.backtest.law import WeighbridgeRule
from weighbridge.backtest.rule import HpaRule, KedaRule, Rule, StaticRule, concurrency
from weighbridge.backtest.run import Result, simulate
from weighbridge.backtest.scene import Scene

HPA_TARGET = 70.0
"""An HPA has no default. This is Knative's: 100 requests per replica, used to 70 %."""
KEDA_TARGET = 5.0
"""The vLLM production stack's: 5 waiting requests per replica."""
HPA_TARGETS = (4, 5, 7, 9, 11, 14, 17, 20, 25, 30, 35, 40, 45, 50, 60)
KEDA_TARGETS = (1,)
STATIC_NEIGHBOURS = 3
"""So many replicas more and fewer than the default are tried."""


class RuleName(StrEnum):
    WEIGHBRIDGE = "weighbridge"
    HPA = "hpa"
    KEDA = "keda"
    STATIC = "static"


class Knob(StrEnum):
    """How a rule's knob was chosen."""

    SHIPPED = "shipped"
    """The settings that ship; there is no knob."""
    GIVEN = "given"
    DEFAULT = "default"
    TUNED = "tuned"
    """The cheapest on this very workload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a comparison."""

    rule: RuleName
    knob: Knob
    value: float | None
    """Concurrency or waiting requests per replica, or replicas."""
    held: bool
    """The goal was reached."""
    result: Result


class Comparison:
    """Runs rules on a scene. Each run is remembered: tuning asks for some twice."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._known: dict[tuple[RuleName, float | None], Result] = {}

    def row(self, rule: RuleName, value: float | None, knob: Knob) -> Row:
        key = (rule, value)
        result = self._known.get(key)
        if result is None:
            result = self._known[key] = self._run(rule, value)
        return Row(rule=rule, knob=knob, value=value, held=self._held(result), result=result)

    def rows(self, rule: RuleName, *, value: float | None, tune: bool) -> Iterator[Row]:
        """The rule with its given or default knob, and with the best one when `tune` is set."""
        if rule is RuleName.WEIGHBRIDGE:
            yield self.row(rule, None, Knob.GIVEN if self.scene.changed else Knob.SHIPPED)
            return
        defaults = {
            RuleName.HPA: HPA_TARGET,
            RuleName.KEDA: KEDA_TARGET,
            RuleName.STATIC: float(self.scene.static_replicas),
        }
        yield self.row(rule, defaults[rule] if value is None else value, Knob.DEFAULT if value is None else Knob.GIVEN)
        if tune:
            yield self.tuned(rule)

    def tuned(self, rule: RuleName) -> Row:
        """The cheapest knob that holds the goal; where none does, the one that comes closest.

        Fewer replicas hold it less: so the knobs of HPA and static are halved between. KEDA's are all tried.
        """
        scaling = self.scene.scaling
        if rule is RuleName.HPA:
            return self._cheapest([self._tunable(rule, float(target)) for target in HPA_TARGETS])
        if rule is RuleName.STATIC:
            most = min(scaling.max_replicas, self.scene.static_replicas + STATIC_NEIGHBOURS)
            least = max(1, scaling.min_replicas, self.scene.static_replicas - STATIC_NEIGHBOURS)
            counts = range(most, least - 1, -1)
            return self._cheapest([self._tunable(rule, float(replicas)) for replicas in counts])
        rows = [self.row(rule, float(target), Knob.TUNED) for target in (*KEDA_TARGETS, KEDA_TARGET)]
        return best(rows, self.judged)

    def judged(self, result: Result) -> float:
        """The share of requests that the goal is for."""
        return result.both_ratio if self.scene.judged_by_both else result.ttft_ratio

    def _tunable(self, rule: RuleName, value: float) -> Callable[[], Row]:
        return lambda: self.row(rule, value, Knob.TUNED)

    def _cheapest(self, from_dear_to_cheap: Sequence[Callable[[], Row]]) -> Row:
        low, high = 0, len(from_dear_to_cheap) - 1
        tried: list[Row] = []
        while low <= high:
            middle = (low + high) // 2
            tried.append(from_dear_to_cheap[middle]())
            if tried[-1].held:
                low = middle + 1
            else:
                high = middle - 1
        return best(tried, self.judged)

    def _held(self, result: Result) -> bool:
        return self.judged(result) >= self.scene.goal_ratio

    def _run(self, rule: RuleName, value: float | None) -> Result:
        scene = self.scene
        start = int(value) if rule is RuleName.STATIC and value is not None else scene.start_replicas
        return simulate(
            scene.workload.arrivals,
            scene.model,
            self._rule(rule, value),
            start_replicas=start,
            judged_tpot_s=scene.judged_tpot_s,
        )

    def _rule(self, rule: RuleName, value: float | None) -> Rule:
        scaling = self.scene.scaling
        if value is None:
            return WeighbridgeRule(scaling)
        least, most = scaling.min_replicas, scaling.max_replicas
        match rule:
            case RuleName.HPA:
                return HpaRule(metric=concurrency, target=value, min_replicas=max(1, least), max_replicas=most)
            case RuleName.KEDA:
                return KedaRule(target=value, min_replicas=least, max_replicas=most)
            case _:
                return StaticRule(int(value))


def best(rows: Sequence[Row], judged: Callable[[Result], float]) -> Row:
    """The row of fewest replica-hours among those that hold the goal; else the one that comes closest to it."""
    holding = [row for row in rows if row.held]
    if holding:
        return min(holding, key=lambda row: row.result.replica_hours)
    return max(rows, key=lambda row: judged(row.result))
