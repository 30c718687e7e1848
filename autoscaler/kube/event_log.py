"""Which Events to write next: the same news once with a count, and no more than one a second for each object. Pure."""

from collections import OrderedDict
from dataclasses import dataclass

from autoscaler.kube.names import Json
from autoscaler.kube.news import EventReason

SAME_S = 600.0
"""For this long the same news is counted in one Event."""
EVERY_S = 1.0
"""Between two writes about one object."""
MOST_PENDING = 200
MOST_KNOWN = 1000
MESSAGE_CHARACTERS = 1000
Key = tuple[str, EventReason, str]


@dataclass(slots=True, kw_only=True)
class Known:
    """An Event that was written."""

    name: str
    count: int
    last_at_s: float


@dataclass(slots=True, kw_only=True)
class Pending:
    """News that is not written yet."""

    reference: Json
    times: int
    first_at_s: float
    last_at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EventWrite:
    """One write. `name` is the Event to count up; `None`: a new one. `count` is what it shall say."""

    key: Key
    reference: Json
    name: str | None
    count: int
    first_at_s: float
    last_at_s: float


class EventLog:
    """Takes news, gives writes. Instants are times of day."""

    def __init__(self) -> None:
        self._pending: OrderedDict[Key, Pending] = OrderedDict()
        self._known: OrderedDict[Key, Known] = OrderedDict()
        self._wrote_at_s: dict[str, float] = {}
        self.dropped = 0

    def add(self, reference: Json, reason: EventReason, message: str, now_s: float) -> None:
        """The oldest of too much news is dropped."""
        where = f"{reference['kind']} {reference['namespace']}/{reference['name']}"
        key = (where, reason, message[:MESSAGE_CHARACTERS])
        pending = self._pending.get(key)
        if pending is not None:
            pending.times += 1
            pending.last_at_s = now_s
            return
        self._pending[key] = Pending(reference=reference, times=1, first_at_s=now_s, last_at_s=now_s)
        if len(self._pending) > MOST_PENDING:
            self._pending.popitem(last=False)
            self.dropped += 1

    def next(self, now_s: float) -> EventWrite | None:
        """The oldest news about an object that was not written about just now."""
        for key, pending in self._pending.items():
            where = key[0]
            if 0 <= now_s - self._wrote_at_s.get(where, -EVERY_S) < EVERY_S:
                continue
            del self._pending[key]
            self._wrote_at_s[where] = now_s
            known = self._known.get(key)
            same = known is not None and 0 <= pending.last_at_s - known.last_at_s <= SAME_S
            return EventWrite(
                key=key,
                reference=pending.reference,
                name=known.name if known is not None and same else None,
                count=pending.times + (known.count if known is not None and same else 0),
                first_at_s=pending.first_at_s,
                last_at_s=pending.last_at_s,
            )
        return None

    def written(self, write: EventWrite, name: str) -> None:
        """The write was done, in an Event of this name."""
        self._known[write.key] = Known(name=name, count=write.count, last_at_s=write.last_at_s)
        self._known.move_to_end(write.key)
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)

    def gone(self, write: EventWrite) -> None:
        """The Event to count up is no longer there: the API server keeps them for an hour."""
        self._known.pop(write.key, None)
