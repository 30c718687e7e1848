"""What all requests of one worker share. Built once in `worker`; handed down, never looked up."""

import os
from collections.abc import Callable, Iterable, Mapping
from itertools import chain, count
from types import MappingProxyType
from typing import TYPE_CHECKING

from estimator.tokens_text import Sizer, typical_size
from gateway.auth import Keys
from gateway.bookkeeper import Bookkeeper
from gateway.names import Names, Served, is_pattern, names_of
from gateway.outcome import Outcome, Refusal
from gateway.pool import Pool
from gateway.settings import Limits

if TYPE_CHECKING:
    from gateway.downstream import ClientConnection
    from gateway.overflow import Overflows


class Context:
    """The pools by model name, the keys, the limits, the clock, and the open client connections."""

    def __init__(
        self,
        *,
        pools: Iterable[Pool],
        keys: Keys,
        limits: Limits,
        clock: Callable[[], float],
        started_at_s: float,
        bookkeeper: Bookkeeper | None = None,
        elsewhere: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.pools = list(pools)
        self.keys = keys
        self.limits = limits
        self.bookkeeper = bookkeeper
        """Books usage and keeps the tenants' limits; without one nothing is limited."""
        self.clock = clock
        """Monotonic seconds."""
        self.started_at_s = started_at_s
        self.draining = False
        self.connections: set[ClientConnection] = set()
        self.overflows: Overflows = {}
        """Where requests of a pool spill to."""
        self.refusals: dict[str, int] = {}
        """Outcome -> requests that ended before a pool was known."""
        self._names: Names[Pool | str] = Names(chain(_served(self.pools), _not_served(elsewhere)))
        self._prefix = os.urandom(4).hex()
        # Workers must not break the same ties in the same way.
        self._numbers = count(int.from_bytes(os.urandom(4), "big"))

    @property
    def models(self) -> list[str]:
        """The names to list: those that are neither hidden nor a pattern."""
        names = (model for pool in self.pools for model in pool.settings.models if model not in pool.settings.hidden)
        return sorted(name for name in names if not is_pattern(name))

    def pool_of(self, model: str) -> Pool:
        """The pool that serves `model`. Raises `Refusal` (unknown-model) when none does."""
        return self.served(model).by

    def served(self, model: str) -> Served[Pool]:
        """The pool that serves `model`, and the name its replicas know. Raises `Refusal` (unknown-model)."""
        found = self._names.find(model)
        if found is None:
            raise Refusal(Outcome.UNKNOWN_MODEL, f"the model {model[:128]!r} does not exist here", param="model")
        if isinstance(found.by, str):
            text = f"the model {model[:128]!r} is not served here: {found.by}"
            raise Refusal(Outcome.UNKNOWN_MODEL, text, param="model")
        return Served(by=found.by, name=found.name)

    def find_pool(self, model: str) -> Pool | None:
        """The pool that serves `model`, if one does."""
        found = self._names.find(model)
        return None if found is None or isinstance(found.by, str) else found.by

    def sizer_of(self, model: str) -> Sizer:
        """What sizes the text of requests to `model`; the typical one when no pool serves it."""
        pool = self.find_pool(model)
        return typical_size if pool is None else pool.weigher.sizer

    def next_number(self) -> int:
        """Numbers requests within the worker, from somewhere."""
        return next(self._numbers)

    def request_id(self, number: int) -> bytes:
        """Unique over all workers."""
        return f"wb-{self._prefix}-{number:x}".encode()

    def refused(self, outcome: Outcome) -> None:
        self.refusals[outcome.value] = self.refusals.get(outcome.value, 0) + 1


def _served(pools: Iterable[Pool]) -> Iterable[tuple[str, Served[Pool | str]]]:
    for pool in pools:
        settings = pool.settings
        for model, name in names_of(settings.models, settings.served_model, settings.served_as):
            yield model, Served(by=pool, name=name)


def _not_served(elsewhere: Mapping[str, str]) -> Iterable[tuple[str, Served[Pool | str]]]:
    for model, reason in elsewhere.items():
        yield model, Served(by=reason, name=model)
