"""The lead among several autoscalers, as those who write or report see it."""

from typing import Protocol


class Lead(Protocol):
    """Whoever decides which process writes."""

    @property
    def identity(self) -> str: ...

    @property
    def transitions(self) -> int | None:
        """How often the lead has changed hands. `None`: unknown."""
        ...

    @property
    def gains(self) -> int:
        """How often this process has begun to lead."""
        ...

    @property
    def losses(self) -> int:
        """How often it has ended other than by its own stop."""
        ...

    def leads(self) -> bool:
        """Whether this process may write now. Cheap: to be asked right before each write."""
        ...


class Alone:
    """The lead of an autoscaler that has no others beside it."""

    transitions: int | None = None
    gains = 1
    losses = 0

    def __init__(self, identity: str) -> None:
        self.identity = identity

    def leads(self) -> bool:
        return True
