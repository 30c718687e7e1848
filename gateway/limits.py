"""What tenants may still use, as one worker knows it: buckets that refill, budgets that end with their day or month.

Redis has the sums over all workers (`backlog.accounts`) and is heard every second or so. In between, a worker adds what
it charges itself. While it has not heard of a tenant lately, it takes every other worker to charge as much as itself.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import floor

from backlog.account import NO_CHARGE, Charge, Spent, Standing
from gateway.outcome import Outcome
from gateway.settings import TenantLimits, TenantSettings

STALE_S = 3.0
"""A standing that is older says too little about what other workers have charged since."""
DAY_S = 86400.0
SHORTEST_MONTH_S = 28 * DAY_S
_EPSILON = 1e-6
"""Seconds, and parts of a minute's GPU-seconds, that rounding may take from a wait."""


@dataclass(frozen=True, slots=True)
class Denial:
    """Why a request is not admitted. If nothing else happens, it is after `retry_after_s`."""

    outcome: Outcome
    detail: str
    retry_after_s: float


class _Bucket:
    """GPU-seconds that a tenant has left. Below zero nothing is admitted."""

    __slots__ = ("_at_s", "_level_gpu_s", "per_minute")

    def __init__(self, per_minute: float) -> None:
        self.per_minute = per_minute
        self._level_gpu_s = per_minute
        self._at_s = 0.0

    def level(self, now_s: float) -> float:
        refilled = max(now_s - self._at_s, 0.0) * self.per_minute / 60.0
        return min(self._level_gpu_s + refilled, self.per_minute)

    def set(self, level_gpu_s: float, now_s: float) -> None:
        self._level_gpu_s = level_gpu_s
        self._at_s = now_s

    def wait_s(self, now_s: float) -> float:
        level = self.level(now_s)
        return -level * 60.0 / self.per_minute if level < -_EPSILON * self.per_minute else 0.0


class _Budget:
    """What a tenant has spent in one day or month. Unknown until heard of: nothing is refused for it before."""

    __slots__ = ("_ends_at_s", "_gpu_s", "_money", "_shortest_s", "_spent", "name")

    def __init__(self, name: str, *, gpu_s: float | None, money: float | None, shortest_s: float) -> None:
        self.name = name
        self._gpu_s = gpu_s
        self._money = money
        self._shortest_s = shortest_s
        self._spent = NO_CHARGE
        self._ends_at_s: float | None = None

    def take(self, charge: Charge, now_s: float) -> None:
        self._roll(now_s)
        self._spent += charge

    def hear(self, spent: Spent, unbooked: Charge, now_s: float) -> None:
        self._spent = Charge(spent.gpu_s, spent.money) + unbooked
        self._ends_at_s = now_s + spent.left_s

    def money_left(self, now_s: float) -> float | None:
        """What is left of the money; `None` until heard of."""
        self._roll(now_s)
        return None if self._ends_at_s is None or self._money is None else self._money - self._spent.money

    def spent_of(self, now_s: float) -> tuple[str, float] | None:
        """What is used up, in words, and how long it stays so."""
        self._roll(now_s)
        if self._ends_at_s is None:
            return None
        left_s = self._ends_at_s - now_s
        if self._gpu_s is not None and self._spent.gpu_s >= self._gpu_s:
            return f"{self._gpu_s:g} GPU-seconds", left_s
        if self._money is not None and self._spent.money >= self._money:
            return f"{self._money:g} in money", left_s
        return None

    def _roll(self, now_s: float) -> None:
        """Begin the next day or month when this one has ended without news of it."""
        if self._ends_at_s is not None and now_s >= self._ends_at_s - _EPSILON:
            self._spent = NO_CHARGE
            passed = floor(max(now_s - self._ends_at_s, 0.0) / self._shortest_s) + 1
            self._ends_at_s += passed * self._shortest_s


class _Cap:
    """Money of one day that must not be passed, over all workers.

    Between two standings every other worker is taken to spend as much as this one, so each spends its share of what was
    left. What comes back counts once: another worker may have got nothing back.
    """

    __slots__ = ("_budget", "unbooked")

    def __init__(self, money_per_day: float) -> None:
        self._budget = _Budget("day", gpu_s=None, money=money_per_day, shortest_s=DAY_S)
        self.unbooked = NO_CHARGE

    def take(self, charge: Charge, now_s: float, *, workers: float) -> None:
        self.unbooked += charge
        self._budget.take(_times(charge, workers), now_s)

    def hear(self, standing: Standing, now_s: float, *, workers: float) -> None:
        self._budget.hear(standing.day, _times(self.unbooked, workers), now_s)

    def left(self, now_s: float) -> float | None:
        return self._budget.money_left(now_s)


def _times(charge: Charge, workers: float) -> Charge:
    return Charge(charge.gpu_s, charge.money * workers if charge.money > 0.0 else charge.money)


class _Account:
    """One tenant with limits."""

    __slots__ = ("bucket", "budgets", "heard_at_s", "unbooked")

    def __init__(self, limits: TenantLimits) -> None:
        rate = limits.gpu_s_per_minute
        self.bucket = _Bucket(rate) if rate is not None else None
        day = _Budget("day", gpu_s=limits.gpu_s_per_day, money=limits.money_per_day, shortest_s=DAY_S)
        month = _Budget(
            "month", gpu_s=limits.gpu_s_per_month, money=limits.money_per_month, shortest_s=SHORTEST_MONTH_S
        )
        self.budgets = (day, month)
        self.unbooked = NO_CHARGE
        """Charged since the last batch was made."""
        self.heard_at_s: float | None = None

    def take(self, charge: Charge, now_s: float, *, workers: float) -> None:
        self.unbooked += charge
        if self.heard_at_s is None or now_s - self.heard_at_s > STALE_S:
            charge = Charge(charge.gpu_s * workers, charge.money * workers)
        if self.bucket is not None:
            self.bucket.set(min(self.bucket.level(now_s) - charge.gpu_s, self.bucket.per_minute), now_s)
        for budget in self.budgets:
            budget.take(charge, now_s)

    def hear(self, standing: Standing, now_s: float) -> None:
        self.heard_at_s = now_s
        if self.bucket is not None and standing.bucket_gpu_s is not None:
            self.bucket.set(standing.bucket_gpu_s - self.unbooked.gpu_s, now_s)
        day, month = self.budgets
        day.hear(standing.day, self.unbooked, now_s)
        month.hear(standing.month, self.unbooked, now_s)

    def denials(self, tenant: str, now_s: float) -> Iterator[Denial]:
        if self.bucket is not None and (wait_s := self.bucket.wait_s(now_s)) > 0.0:
            detail = f"tenant {tenant!r} has used up its {self.bucket.per_minute:g} GPU-seconds per minute"
            yield Denial(Outcome.RATE_LIMITED, detail, wait_s)
        for budget in self.budgets:
            if (spent := budget.spent_of(now_s)) is not None:
                what, left_s = spent
                detail = f"tenant {tenant!r} has spent its {what} for this {budget.name} (UTC)"
                yield Denial(Outcome.BUDGET_SPENT, detail, left_s)


class Limiter:
    """The tenants that have a rate or a budget. All others are admitted, at the cost of a dictionary miss."""

    def __init__(
        self, tenants: Iterable[TenantSettings], *, share: float = 1.0, caps: Mapping[str, float] | None = None
    ) -> None:
        """`caps`: money per day by account, beside the tenants; the names of the two differ."""
        self.share = share
        """1 / the number of workers, as far as it is known."""
        self._accounts = {tenant.name: _Account(tenant.limits) for tenant in tenants if _counts(tenant.limits)}
        self._caps = {name: _Cap(money) for name, money in (caps or {}).items()}
        self.rates: Mapping[str, float | None] = {
            **{
                tenant: None if account.bucket is None else account.bucket.per_minute
                for tenant, account in self._accounts.items()
            },
            **dict.fromkeys(self._caps),
        }
        """What to ask for: tenants with limits, and their GPU-seconds per minute."""
        self._changed: set[str] = set()

    def admit(self, tenant: str, now_s: float) -> Denial | None:
        """Whether the tenant may start another request, whatever its size: the longest reason why not."""
        account = self._accounts.get(tenant)
        if account is None:
            return None
        return max(account.denials(tenant, now_s), key=lambda denial: denial.retry_after_s, default=None)

    def charge(self, tenant: str, gpu_s: float, money: float, now_s: float) -> Charge:
        """Charge a request that is admitted by its estimate. The answer is what its settlement must be told."""
        if tenant not in self._accounts:
            return NO_CHARGE
        charge = Charge(gpu_s, money)
        self.correct(tenant, charge, now_s)
        return charge

    def correct(self, tenant: str, difference: Charge, now_s: float) -> bool:
        """Charge what was used over what was charged, or give it back. False for a tenant without limits."""
        account = self._accounts.get(tenant) or self._caps.get(tenant)
        if account is None:
            return False
        if difference != NO_CHARGE:
            account.take(difference, now_s, workers=1.0 / self.share)
            self._changed.add(tenant)
        return True

    @property
    def changed(self) -> bool:
        """Something was charged since the last `cut`."""
        return bool(self._changed)

    def cut(self) -> dict[str, Charge]:
        """What was charged since the last cut, by tenant: the next standings that are heard must contain it."""
        changed = {tenant: self._accounts.get(tenant) or self._caps[tenant] for tenant in sorted(self._changed)}
        charges = {tenant: account.unbooked for tenant, account in changed.items()}
        for account in changed.values():
            account.unbooked = NO_CHARGE
        self._changed.clear()
        return charges

    def hear(self, standings: Mapping[str, Standing], now_s: float) -> None:
        """Take over what Redis knows, with what was charged here since the last cut on top."""
        for tenant, standing in standings.items():
            account, cap = self._accounts.get(tenant), self._caps.get(tenant)
            if account is not None:
                account.hear(standing, now_s)
            elif cap is not None:
                cap.hear(standing, now_s, workers=1.0 / self.share)

    def money_left(self, account: str, now_s: float) -> float | None:
        """What this worker may spend of a cap before it hears again: its share of what is left of the day's money.

        `None` until Redis has said what was spent.
        """
        cap = self._caps.get(account)
        left = None if cap is None else cap.left(now_s)
        return None if left is None else left * self.share


def _counts(limits: TenantLimits) -> bool:
    """Whether there is anything to count over time. The other limits are kept where requests are dispatched."""
    return any(
        limit is not None
        for limit in (
            limits.gpu_s_per_minute,
            limits.gpu_s_per_day,
            limits.gpu_s_per_month,
            limits.money_per_day,
            limits.money_per_month,
        )
    )
