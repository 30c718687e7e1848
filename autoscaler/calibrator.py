"""Where the utilisation of the scaling law comes from.

`decide` takes a `Calibration` as an input. A calibrator that learns the best utilisation from live traffic implements
`Calibrator` and is handed to the loop; nothing else changes.
"""

from dataclasses import dataclass
from typing import Protocol

from autoscaler.observation import Known, Observation
from autoscaler.settings import AutoscalerSettings

MAX_SLACK = 1.0
MAX_STEP_S = 30.0
"""After a longer pause the integrator counts only this much of it: what happened meanwhile was not observed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Replicas per erlang are `1 / utilization + slack`."""

    utilization: float
    slack: float = 0.0

    @property
    def replicas_per_erlang(self) -> float:
        return 1 / self.utilization + self.slack


class Calibrator(Protocol):
    def calibrate(self, observation: Observation, now_s: float) -> Calibration:
        """The utilisation to plan with now. Called once per decision, with `now_s` never far apart."""
        ...


def integrate(slack: float, miss_ratio: float, settings: AutoscalerSettings, elapsed_s: float) -> float:
    """`s += gain x clip(miss / target - 1, -1, 5)` per second, kept in [0, 1]."""
    push = min(5.0, max(-1.0, miss_ratio / settings.target_miss_ratio - 1))
    return min(MAX_SLACK, max(0.0, slack + settings.slo_gain_per_s * push * elapsed_s))


class SloCalibrator:
    """A fixed utilisation plus a slow integrator on SLO misses: TTFT, or TPOT where that is missed more often.

    Without settled requests, or without data, the slack stays as it is.
    """

    def __init__(self, settings: AutoscalerSettings) -> None:
        self._settings = settings
        self._slack = 0.0
        self._at_s: float | None = None

    def calibrate(self, observation: Observation, now_s: float) -> Calibration:
        elapsed_s = 0.0 if self._at_s is None else min(MAX_STEP_S, max(0.0, now_s - self._at_s))
        self._at_s = now_s
        match observation.misses:
            case Known(value=misses):
                miss_ratio = max(misses.ttft_ratio, misses.tpot_ratio)
                self._slack = integrate(self._slack, miss_ratio, self._settings, elapsed_s)
            case _:
                pass
        return Calibration(utilization=self._settings.utilization, slack=self._slack)
