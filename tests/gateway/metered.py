"""A replica as calibration sees it, and periods in which it shows a ratio."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

from estimator.price import Price
from gateway.calibration import Calibration, Meter
from gateway.pick import Load
from tests.gateway.builders import ME, pool_settings

PERIOD_S = 10.0


@dataclass(eq=False)
class Metered:
    name: str = "r0"
    load: Load = field(default_factory=lambda: Load(name="r0"))
    meter: Meter = field(default_factory=Meter)
    running: list[float] = field(default_factory=list)
    gpu_ratio: float = 1.0

    def running_s(self) -> Iterator[float]:
        return iter(self.running)


@cache
def price() -> Price:
    """Made once: it takes longer than most tests."""
    return pool_settings().price()


def calibration() -> Calibration:
    return Calibration(worker=ME, price=price(), planning_batch=48)


def period(one: Calibration, replica: Metered, *, ratio: float, in_flight: int = 48, start_s: float) -> float:
    """Ten busy seconds in which so much is attributed that `ratio` shows."""
    replica.load.in_flight = in_flight
    one.tick({replica.name: replica}, start_s)
    one.tick({replica.name: replica}, start_s + PERIOD_S)
    replica.meter.settled_s += PERIOD_S / ratio
    one.learn({replica.name: replica})
    return start_s + PERIOD_S
