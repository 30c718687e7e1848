"""Contenders for one lease on virtual time: clocks that drift and jump, processes that pause, lost messages."""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

from autoscaler.kube.contender import Answer, Contender, Found, Put, Read, Refused, Silence, Sleep, Written
from autoscaler.kube.lease import LeaderLease, LeaseTerms, Write

DURATION_S, RENEW_DEADLINE_S, RETRY_S = 15.0, 10.0, 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What the network does with one request. What is late or lost is not answered; what is late is done late."""

    there_s: float = 0.01
    back_s: float = 0.01
    lost: bool = False
    answer_lost: bool = False


@dataclass(slots=True, kw_only=True)
class Node:
    contender: Contender
    clock: "Clock"
    sleeping: bool = True
    odd_sleep: bool = False
    """Something has happened to this sleep already: a pause, or a jump of the clock."""
    alive: bool = True
    contending: bool = True
    """Alive, and not told to stop."""
    paused_until_s: float = 0.0
    cut_off_until_s: float = 0.0


@dataclass(slots=True)
class Clock:
    """A host's: `rate` seconds of it per real second."""

    ahead_s: float = 0.0
    rate: float = 1.0

    def at(self, real_s: float) -> float:
        return self.ahead_s + self.rate * real_s


@dataclass(slots=True)
class World:
    """A server with one lease, and those who want it. Everything happens in the order of real time."""

    now_s: float = 0.0
    lease: LeaderLease | None = None
    nodes: list[Node] = field(default_factory=list)
    fates: Iterator[Fate] = field(default_factory=lambda: iter(()))
    _versions: Iterator[int] = field(default_factory=count)
    _events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _order: Iterator[int] = field(default_factory=count)

    def add(self, *, ahead_s: float = 0.0, rate: float = 1.0) -> Node:
        terms = LeaseTerms(
            identity=f"node-{len(self.nodes)}",
            duration_s=DURATION_S,
            renew_deadline_s=RENEW_DEADLINE_S,
            retry_s=RETRY_S,
        )
        clock = Clock(ahead_s, rate)
        node = Node(contender=Contender(terms, clock.at(self.now_s)), clock=clock)
        self.nodes.append(node)
        self._at(self.now_s, lambda: self._act(node))
        return node

    def leaders(self) -> list[Node]:
        return [node for node in self.nodes if node.alive and node.contender.leads(node.clock.at(self.now_s))]

    def step(self) -> None:
        """Let the next thing happen."""
        at_s, _, action = heapq.heappop(self._events)
        self.now_s = max(self.now_s, at_s)
        action()

    def run(self, seconds: float, check: Callable[[], None] = lambda: None) -> None:
        end_s = self.now_s + seconds
        while self._events and self._events[0][0] <= end_s:
            self.step()
            check()
        self.now_s = end_s

    def pause(self, node: Node, seconds: float) -> None:
        """As by SIGSTOP: its clock goes on, what it waits for waits. Not in a sleep with a jump: see `jump`."""
        if not node.odd_sleep:
            node.paused_until_s = max(node.paused_until_s, self.now_s + seconds)
            node.odd_sleep = True

    def cut_off(self, node: Node, seconds: float) -> None:
        """Its requests get lost."""
        node.cut_off_until_s = max(node.cut_off_until_s, self.now_s + seconds)

    def jump(self, node: Node, seconds: float) -> None:
        """A clock that jumps. Back only in a sleep that takes as long as was agreed on: the claim in `lease`."""
        if seconds > 0:
            node.clock.ahead_s += seconds
        elif node.sleeping and not node.odd_sleep and node.paused_until_s <= self.now_s:
            node.clock.ahead_s += seconds
            node.odd_sleep = True

    def kill(self, node: Node) -> None:
        node.alive = node.contending = False

    def stop(self, node: Node) -> None:
        """In order: it gives the lease back."""
        node.contending = False
        node.contender.retire()
        if node.sleeping:
            self._act(node)

    def _at(self, at_s: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (at_s, next(self._order), action))

    def _wake(self, node: Node, action: Callable[[], None]) -> None:
        """Now, or when its pause is over."""
        if node.paused_until_s > self.now_s:
            self._at(node.paused_until_s, lambda: self._wake(node, action))
        elif node.alive:
            action()

    def _act(self, node: Node) -> None:
        asked = node.contender.ask(node.clock.at(self.now_s))
        node.sleeping, node.odd_sleep = isinstance(asked, Sleep), False
        if isinstance(asked, Sleep):
            if asked.seconds > 0:
                slept_at_s = self.now_s + asked.seconds / node.clock.rate
                self._at(slept_at_s, lambda: self._wake(node, lambda: self._act(node)))
            else:
                node.alive = False
            return
        fate = next(self.fates, Fate()) if node.cut_off_until_s <= self.now_s else Fate(lost=True)
        gives_up_at_s = self.now_s + asked.limit_s / node.clock.rate
        answered_at_s = self.now_s + fate.there_s + fate.back_s
        answers: list[Answer] = []
        if not fate.lost:
            self._at(self.now_s + fate.there_s, lambda: answers.append(self._serve(asked)))
        lost = fate.lost or fate.answer_lost or answered_at_s >= gives_up_at_s

        def hear() -> None:
            node.contender.hear(Silence() if lost else answers[0], node.clock.at(self.now_s))
            self._act(node)

        self._at(gives_up_at_s if lost else answered_at_s, lambda: self._wake(node, hear))

    def _serve(self, asked: Read | Put) -> Answer:
        if isinstance(asked, Read):
            return Found(lease=self.lease)
        write: Write = asked.write
        if write.version != (None if self.lease is None else self.lease.version):
            return Refused()
        self.lease = LeaderLease(
            holder=write.holder,
            renewed="always the same",
            transitions=write.transitions,
            duration_s=write.duration_s,
            version=str(next(self._versions)),
        )
        return Written(lease=self.lease)
