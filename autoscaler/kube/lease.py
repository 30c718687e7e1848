"""Who leads: a contender for one Lease as values, without I/O. Pure.

At most one contender believes to lead at any instant, as long as a sleep takes about as long as was asked for. No two
hosts' clocks are compared: what the holder wrote as the time of its renewal is an opaque mark that changes or does not.

The holder counts from the **start** of its last write that was confirmed, and stops at `renew_deadline_s`. Others count
from the **end** of the read that first showed them that write, and wait `duration_s`, which is longer. What the holder
counts is never too short and what others count never too long: where the clock and the sleep that was agreed on differ,
a holder believes the larger, a contender the smaller. So a clock that jumps ahead makes a holder stop early and a
contender no faster, and one that jumps back makes a holder stop at its next look and a contender slower.

A human who deletes the lease, or writes another holder into it, takes it from a holder that does not know yet.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

_SHORTEST_S = 0.01


class Role(StrEnum):
    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    """The lease is there for the taking, or the taking is not confirmed yet."""
    LEADER = "leader"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTerms:
    """What one contender goes by. Raises ValueError when the times leave no room for each other."""

    identity: str
    """Unique over all processes that ever contend."""
    duration_s: float = 15.0
    renew_deadline_s: float = 10.0
    retry_s: float = 2.0

    def __post_init__(self) -> None:
        rules = (
            (bool(self.identity), "identity is not empty"),
            (self.retry_s > 0, "retry_s > 0"),
            (2 * self.retry_s <= self.renew_deadline_s, "2 x retry_s <= renew_deadline_s"),
            (self.renew_deadline_s + self.retry_s <= self.duration_s, "renew_deadline_s + retry_s <= duration_s"),
        )
        broken = [rule for holds, rule in rules if not holds]
        if broken:
            raise ValueError(f"must hold: {'; '.join(broken)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderLease:
    """The lease as the server has it. Two of them are equal when nobody has written in between."""

    holder: str
    """Empty: released."""
    renewed: str
    """Opaque."""
    transitions: int
    duration_s: float
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """The lease as a contender wants it: created where `version` is `None`, else replaced if it is still that version.

    `taken`: the holder is another one than before.
    """

    holder: str
    transitions: int
    duration_s: float
    version: str | None
    taken: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a contender stands. It begins as `Standing(now_s=…)`."""

    now_s: float
    """The last instant at which time was taken, by the own clock."""
    lease: LeaderLease | None = None
    """As last read or written; `None`: there is none."""
    read: bool = False
    """`lease` is what the server has, as far as this contender knows."""
    agreed_s: float = 0.0
    """The sleep that was agreed on at `now_s`."""
    waited_s: float = 0.0
    """At least this long the lease has been as it is."""
    age_s: float | None = None
    """At most this long ago the last confirmed write began. `None`: does not lead."""


def leads(standing: Standing, terms: LeaseTerms, now_s: float) -> bool:
    """Whether this contender may write now."""
    if standing.age_s is None or now_s < standing.now_s:
        return False
    return standing.age_s + now_s - standing.now_s < terms.renew_deadline_s


def limit_s(standing: Standing, terms: LeaseTerms) -> float:
    """How long a request for the lease may take: half a renew deadline, less when the lead ends before."""
    longest_s = terms.renew_deadline_s / 2
    return longest_s if standing.age_s is None else min(longest_s, terms.renew_deadline_s - standing.age_s)


def role(standing: Standing, terms: LeaseTerms) -> Role:
    """As of the last instant at which time was taken."""
    if standing.age_s is not None:
        return Role.LEADER
    return Role.CANDIDATE if standing.read and _is_free(standing, terms) else Role.FOLLOWER


def take_time(standing: Standing, terms: LeaseTerms, now_s: float) -> Standing:
    """The time that has passed, counted. To be called before and after whatever takes time."""
    passed_s = now_s - standing.now_s
    age_s = standing.age_s
    if age_s is not None:
        age_s += max(passed_s, standing.agreed_s)
        if passed_s < 0 or age_s >= terms.renew_deadline_s:
            age_s = None
    waited_s = standing.waited_s + min(max(0.0, passed_s), standing.agreed_s)
    return replace(standing, now_s=now_s, agreed_s=0.0, waited_s=waited_s, age_s=age_s)


def see(standing: Standing, terms: LeaseTerms, lease: LeaderLease | None) -> Standing:
    """A read was answered: this is the lease. Time has been taken after the answer."""
    held = lease is not None and lease.holder == terms.identity
    return replace(
        standing,
        lease=lease,
        read=True,
        waited_s=standing.waited_s if lease == standing.lease else 0.0,
        age_s=standing.age_s if held else None,
    )


def doubt(standing: Standing) -> Standing:
    """A write was refused as the lease is another by now, or was not answered: read before the next one."""
    return replace(standing, read=False)


def wish(standing: Standing, terms: LeaseTerms) -> Write | None:
    """What to write now, if the lease is this contender's to renew or to take. `None` as well while it must be read."""
    if not standing.read or not _is_free(standing, terms):
        return None
    lease = standing.lease
    taken = lease is None or lease.holder != terms.identity
    return Write(
        holder=terms.identity,
        transitions=0 if lease is None else lease.transitions + taken,
        duration_s=terms.duration_s,
        version=None if lease is None else lease.version,
        taken=taken,
    )


def confirm(standing: Standing, lease: LeaderLease, *, began_at_s: float) -> Standing:
    """A write that began then was answered with this lease. Time has been taken before the write and after the answer.

    A clock that went back in between confirms nothing.
    """
    passed_s = standing.now_s - began_at_s
    return replace(standing, lease=lease, read=True, waited_s=0.0, age_s=passed_s if passed_s >= 0 else None)


def farewell(standing: Standing, terms: LeaseTerms) -> Write | None:
    """What to write at the end, so that the next one need not wait; `None` when it is not this contender's lease."""
    lease = standing.lease
    if not standing.read or lease is None or lease.holder != terms.identity:
        return None
    return Write(holder="", transitions=lease.transitions, duration_s=1.0, version=lease.version, taken=False)


def retire(standing: Standing) -> Standing:
    """The lead is given up, before `farewell` is written."""
    return replace(standing, age_s=None)


def agree(standing: Standing, terms: LeaseTerms) -> Standing:
    """Sleep for `agreed_s` of the result, then `take_time`."""
    agreed_s = terms.retry_s
    if standing.read and standing.age_s is None and standing.lease is not None and not _is_free(standing, terms):
        agreed_s = min(agreed_s, max(_SHORTEST_S, _patience_s(standing.lease, terms) - standing.waited_s))
    return replace(standing, agreed_s=agreed_s)


def _patience_s(lease: LeaderLease, terms: LeaseTerms) -> float:
    """How long the lease must stay as it is before another may take it: what its holder was promised."""
    return max(terms.duration_s, lease.duration_s)


def _is_free(standing: Standing, terms: LeaseTerms) -> bool:
    lease = standing.lease
    if lease is None or lease.holder in ("", terms.identity):
        return True
    return standing.waited_s >= _patience_s(lease, terms)
