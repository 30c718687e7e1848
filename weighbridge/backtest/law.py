"""The scaling law that ships, on a simulated pool: the real observation, calibrator and decision. Pure."""

from autoscaler.calibrator import SloCalibrator
from autoscaler.decide import DecisionState, decide
from autoscaler.observation import observe
from autoscaler.offered import History, advance
from autoscaler.settings import AutoscalerSettings
from weighbridge.backtest.pool import SimulatedPool


class WeighbridgeRule:
    """`autoscaler.loop` without Redis and real time: observe, calibrate, decide."""

    def __init__(self, settings: AutoscalerSettings) -> None:
        self._settings = settings
        self._calibrator = SloCalibrator(settings)
        self._history = History()
        self._state = DecisionState()

    @property
    def every_s(self) -> float:
        return self._settings.polling_s

    @property
    def wake_s(self) -> float:
        return self._settings.wake_s

    def desired(self, pool: SimulatedPool, now_s: float) -> int:
        settings = self._settings
        view = pool.view(now_s)
        self._history = advance(self._history, view, keep_s=settings.history_s, now_s=now_s)
        observation = observe(view, self._history, pool.fleet(), settings, known_age_s=0.0, now_s=now_s)
        calibration = self._calibrator.calibrate(observation, now_s)
        decision, self._state = decide(observation, self._state, settings, calibration=calibration, now_s=now_s)
        return decision.desired
