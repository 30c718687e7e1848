"""The order of a contender's requests for a lease: what to ask the server next, and what its answers mean. Pure.

Whoever does the I/O repeats: `ask`, do that, `hear` what came of it. One look ends with a `Sleep`.
"""

from dataclasses import dataclass

from autoscaler.kube import lease
from autoscaler.kube.lease import LeaderLease, LeaseTerms, Role, Standing, Write

_MOST_REQUESTS = 6
"""In one look. Two contenders that refuse each other again and again go to sleep between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    limit_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """Write this, and wait for the answer at most `limit_s`: later it is of no use."""

    write: Write
    limit_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sleep:
    """`seconds` 0.0 at the end of a farewell."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The lease as it was read. `None`: there is none."""

    lease: LeaderLease | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    lease: LeaderLease


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The write was not done, as the lease has changed, is there already or has gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """No answer, or none that tells whether the write was done."""


Ask = Read | Put | Sleep
Answer = Found | Written | Refused | Silence


class Contender:
    """One process's part in an election. `now_s` comes from one clock, best one that never jumps."""

    def __init__(self, terms: LeaseTerms, now_s: float) -> None:
        self._terms = terms
        self._standing = Standing(now_s=now_s)
        self._requests = 0
        self._fresh = False
        self._written = False
        self._silent = False
        self._began_at_s = now_s
        self._retiring = False

    @property
    def standing(self) -> Standing:
        return self._standing

    @property
    def role(self) -> Role:
        return lease.role(self._standing, self._terms)

    def leads(self, now_s: float) -> bool:
        """Whether this process may write now. Cheap: to be asked right before each write."""
        return lease.leads(self._standing, self._terms, now_s)

    def retire(self) -> None:
        """Stop leading, for good. From here on `ask` gives the lease back."""
        self._standing = lease.retire(self._standing)
        self._retiring = True
        self._requests, self._fresh, self._written, self._silent = 0, True, False, False

    def ask(self, now_s: float) -> Ask:
        """What to do next."""
        self._standing = lease.take_time(self._standing, self._terms, now_s)
        self._began_at_s = now_s
        if self._silent or self._requests >= _MOST_REQUESTS:
            return self._sleep()
        limit_s = lease.limit_s(self._standing, self._terms)
        # A leader need not read: what it wrote last is what is there, or its next write is refused.
        if not self._standing.read or not (self._fresh or self.role is Role.LEADER):
            self._requests += 1
            return Read(limit_s=limit_s)
        wanted = lease.farewell if self._retiring else lease.wish
        write = None if self._written else wanted(self._standing, self._terms)
        if write is None:
            return self._sleep()
        self._requests += 1
        return Put(write=write, limit_s=limit_s)

    def hear(self, answer: Answer, now_s: float) -> None:
        """What came of the last `Read` or `Put`, and when."""
        self._standing = lease.take_time(self._standing, self._terms, now_s)
        match answer:
            case Found(lease=found):
                self._standing = lease.see(self._standing, self._terms, found)
                self._fresh = True
            case Written(lease=written):
                self._standing = lease.confirm(self._standing, written, began_at_s=self._began_at_s)
                if self._retiring:
                    self._standing = lease.retire(self._standing)
                self._written = True
            case Refused():
                self._standing = lease.doubt(self._standing)
            case Silence():
                self._standing = lease.doubt(self._standing)
                self._silent = True

    def _sleep(self) -> Sleep:
        if self._retiring:
            return Sleep(seconds=0.0)
        self._requests, self._fresh, self._written, self._silent = 0, False, False, False
        self._standing = lease.agree(self._standing, self._terms)
        return Sleep(seconds=self._standing.agreed_s)
