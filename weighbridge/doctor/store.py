"""What a Redis must be to hold the queue. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from weighbridge.doctor.finding import Finding, error, fine, unknown, warning
from weighbridge.doctor.version import numbers_of

OLDEST = (6, 2)
SLOW_S = 0.005
NO_EVICTION = "noeviction"
ACL = "+@read +@write +@scripting +@connection +time +info"


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisFacts:
    """What a Redis says of itself. `None`: it was asked and did not say."""

    away: str | None = None
    """Why it could not be reached; then the rest says nothing."""
    version: str | None = None
    eviction: str | None = None
    """`maxmemory-policy`."""
    max_memory_bytes: int | None = None
    """0: no bound."""
    clock_ahead_s: float | None = None
    """Its clock less this machine's, at the middle of the round trip."""
    ping_s: float | None = None
    """Median round trip."""
    refused: str | None = None
    """Why the queue's scripts do not run."""


def check_redis(facts: RedisFacts, *, max_clock_skew_s: float) -> Iterator[Finding]:
    """All checks of one Redis."""
    if facts.away is not None:
        yield error("redis", f"cannot be reached: {facts.away}", "start it, or correct redis.url")
        return
    yield _version(facts.version)
    yield _eviction(facts)
    if facts.refused is None:
        yield fine("redis-scripts", "the queue's scripts run")
    else:
        what = f"the queue's scripts do not run: {facts.refused}"
        yield error("redis-scripts", what, f"ACL SETUSER NAME ~PREFIX:* {ACL}")
    yield _clock(facts.clock_ahead_s, max_clock_skew_s)
    if facts.ping_s is None:
        yield unknown("redis-latency", "no PING was answered")
    elif facts.ping_s > SLOW_S:
        what = f"a round trip takes {facts.ping_s * 1000:.1f} ms: every request that waits pays it more than once"
        yield warning("redis-latency", what, "run Redis in the same zone as the gateways")
    else:
        yield fine("redis-latency", f"a round trip takes {facts.ping_s * 1000:.1f} ms")


def _version(text: str | None) -> Finding:
    numbers = numbers_of(text or "")
    if numbers is None:
        return unknown("redis-version", "Redis does not tell its version", f"allow it: ACL SETUSER NAME {ACL}")
    if numbers < OLDEST:
        return error("redis-version", f"Redis {text} is older than 6.2", "install Redis 6.2 or later, or Valkey")
    return fine("redis-version", f"Redis {text}")


def _eviction(facts: RedisFacts) -> Finding:
    check = "redis-eviction"
    if facts.eviction is None:
        return unknown(check, "Redis does not tell its maxmemory-policy")
    if facts.eviction == NO_EVICTION:
        return fine(check, "maxmemory-policy is noeviction")
    bound = "" if facts.max_memory_bytes else ", once maxmemory is set,"
    what = f"maxmemory-policy is {facts.eviction}: a full Redis{bound} throws queues away"
    return warning(check, what, "redis-cli CONFIG SET maxmemory-policy noeviction")


def _clock(ahead_s: float | None, max_skew_s: float) -> Finding:
    check = "clock"
    if ahead_s is None:
        return unknown(check, "Redis does not tell its time")
    side = "ahead of" if ahead_s > 0 else "behind"
    what = f"the clock of Redis is {abs(ahead_s):.3f} s {side} this machine's"
    if abs(ahead_s) > max_skew_s:
        return warning(check, f"{what} (limit {max_skew_s:g} s): deadlines and days differ", "run NTP on both machines")
    return fine(check, what)
