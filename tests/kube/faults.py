"""What can go wrong with the fake server, at a test's word."""

import asyncio
from dataclasses import dataclass

from tests.kube.target import Target


@dataclass(slots=True, kw_only=True)
class Fault:
    """Hits the next `times` requests that fit, all of them if `times` is None. Empty fields fit everything.

    It waits `delay_s`, then, if `hang`, until the faults are cleared, then answers with `status`, or breaks the
    connection if `reset`; with neither the request goes on. If `late`, all of that comes after doing what was asked.
    """

    times: int | None = 1
    verb: str = ""
    resource: str = ""
    subresource: str | None = None
    name: str = ""
    status: int | None = None
    retry_after_s: int | None = None
    reset: bool = False
    hang: bool = False
    delay_s: float = 0.0
    late: bool = False
    hits: int = 0
    cleared: asyncio.Event

    def fits(self, verb: str, target: Target) -> bool:
        return (
            (self.times is None or self.hits < self.times)
            and self.verb in ("", verb)
            and self.resource in ("", target.resource)
            and self.subresource in (None, target.subresource)
            and self.name in ("", target.name)
        )


class Faults:
    """All faults of one server, the oldest first."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def next(
        self,
        times: int | None = 1,
        *,
        verb: str = "",
        resource: str = "",
        subresource: str | None = None,
        name: str = "",
        status: int | None = None,
        retry_after_s: int | None = None,
        reset: bool = False,
        hang: bool = False,
        delay_s: float = 0.0,
        late: bool = False,
    ) -> Fault:
        """The next `times` requests that fit, or every one (None); see `Fault`. Its `hits` count them."""
        fault = Fault(
            times=times,
            verb=verb,
            resource=resource,
            subresource=subresource,
            name=name,
            status=status,
            retry_after_s=retry_after_s,
            reset=reset,
            hang=hang,
            delay_s=delay_s,
            late=late,
            cleared=asyncio.Event(),
        )
        self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """All is well again, also for requests that hang."""
        for fault in self._faults:
            fault.cleared.set()
        self._faults.clear()

    def hit(self, verb: str, target: Target) -> Fault | None:
        for fault in self._faults:
            if fault.fits(verb, target):
                fault.hits += 1
                return fault
        return None
