"""The calls of a LiteLLM worker by its id for them, for as long as a hook may still ask."""

import asyncio
from collections.abc import Iterator
from typing import Any

from gateway.plugin.visit import Visit

REMEMBER_S = 120.0
"""Logs are written after the answer; a call that ended so long ago is asked for no more."""
HAND_OVER_S = 30.0
"""From LiteLLM's answer to the first item that is read of its stream. A client that left in between is not told of."""
MOST_ENDED = 16
"""Of one id, which clients may choose: one that uses the same for all its calls costs no more."""


class Calls:
    """Visits by call. A call has several where LiteLLM falls back to another model group."""

    def __init__(self) -> None:
        self._visits: dict[str, list[Visit]] = {}
        self._unread: dict[Visit, float] = {}
        """Streams that nobody reads yet, and since when."""

    def __len__(self) -> int:
        return len(self._visits)

    def remembered(self, call_id: str) -> int:
        """How many visits of a call are known."""
        return len(self._visits.get(call_id, ()))

    def add(self, call_id: str, visit: Visit) -> None:
        visits = self._visits.setdefault(call_id, [])
        if len(visits) >= MOST_ENDED:
            ended = sum(other.settled for other in visits)
            for other in [other for other in visits if other.settled][: max(0, ended - MOST_ENDED + 1)]:
                visits.remove(other)
        visits.append(visit)

    def find(self, call_id: str, model: str, task: asyncio.Task[Any] | None) -> Visit | None:
        """The visit of a call to a model group that a further attempt belongs to.

        One that was served has no further attempt: LiteLLM asks a model again where it has run a tool for it.
        """
        for visit in self._visits.get(call_id, ()):
            if visit.model == model and visit.task is task and (visit.verdict is not None or not visit.settled):
                return visit
        return None

    def made_in(self, call_id: str, task: asyncio.Task[Any]) -> list[Visit]:
        """The visits of a call that `task` made."""
        return [visit for visit in self._visits.get(call_id, ()) if visit.task is task]

    def others(self, call_id: str, visit: Visit) -> list[Visit]:
        """Visits of the same task that have not ended: what LiteLLM has fallen back from."""
        visits = self._visits.get(call_id, ())
        return [other for other in visits if other is not visit and other.task is visit.task and not other.settled]

    def flying(self, call_id: str, task: asyncio.Task[Any] | None = None) -> Visit | None:
        """The visit that a replica works on; one of `task` before others."""
        flying = [visit for visit in self._visits.get(call_id, ()) if visit.flight is not None]
        return next((visit for visit in flying if visit.task is task), flying[-1] if flying else None)

    def last(self, call_id: str) -> Visit | None:
        """The visit that answered: one that was sent somewhere, the latest, before any that was not."""
        visits = self._visits.get(call_id, ())
        sent = [visit for visit in visits if visit.replica is not None]
        return sent[-1] if sent else visits[-1] if visits else None

    def hand_over(self, visit: Visit, now_s: float) -> None:
        """LiteLLM has a stream for it, and reads it in another task, which may have begun before this is known."""
        if not visit.taken:
            self._unread[visit] = now_s

    def taken_over(self, visit: Visit) -> None:
        visit.taken = True
        self._unread.pop(visit, None)

    def abandoned(self, now_s: float) -> Iterator[Visit]:
        """Streams that nobody has begun to read: their clients left first."""
        for visit, since_s in list(self._unread.items()):
            if visit.settled or now_s - since_s > HAND_OVER_S:
                del self._unread[visit]
                if not visit.settled:
                    yield visit

    def forget(self, now_s: float) -> None:
        """Let go of calls that ended long ago."""
        for call_id, visits in list(self._visits.items()):
            if all(visit.settled_at_s is not None and now_s - visit.settled_at_s > REMEMBER_S for visit in visits):
                del self._visits[call_id]
