"""How long to wait before starting another replica after one has crashed. Pure."""

from dataclasses import dataclass

STABLE_AFTER_S = 60.0
"""A replica that lived this long did not crash because of how it is started: the next one starts at once."""
FIRST_DELAY_S = 1.0
MAX_DELAY_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Crashes:
    """Quick crashes in a row, and when the next start is allowed."""

    in_a_row: int = 0
    retry_at_s: float = 0.0

    def may_start(self, now_s: float) -> bool:
        """True also when the clock was set back by more than any delay."""
        return now_s >= self.retry_at_s or self.retry_at_s - now_s > MAX_DELAY_S


def after_crash(crashes: Crashes, *, lived_s: float, now_s: float) -> Crashes:
    """The wait doubles from 1 s to 60 s while replicas keep dying young."""
    if lived_s >= STABLE_AFTER_S:
        return Crashes(retry_at_s=now_s)
    delay_s = min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** min(crashes.in_a_row, 16))
    return Crashes(in_a_row=crashes.in_a_row + 1, retry_at_s=now_s + delay_s)
