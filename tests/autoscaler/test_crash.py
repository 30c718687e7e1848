"""Replicas that keep dying young are started ever more rarely."""

from autoscaler.crash import MAX_DELAY_S, Crashes, after_crash


def test_a_replica_that_lived_long_is_replaced_at_once() -> None:
    assert after_crash(Crashes(in_a_row=5), lived_s=3600.0, now_s=10.0).may_start(10.0)


def test_the_delay_doubles_up_to_a_minute() -> None:
    crashes, delays_s = Crashes(), []
    for _ in range(9):
        crashes = after_crash(crashes, lived_s=0.5, now_s=0.0)
        delays_s.append(crashes.retry_at_s)
    assert delays_s == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_no_start_before_the_delay_is_over() -> None:
    crashes = after_crash(Crashes(), lived_s=0.0, now_s=100.0)
    assert [crashes.may_start(100.0), crashes.may_start(100.9), crashes.may_start(101.0)] == [False, False, True]


def test_a_clock_set_back_does_not_block_starts() -> None:
    assert after_crash(Crashes(), lived_s=0.0, now_s=100_000.0).may_start(100_000.0 - 2 * MAX_DELAY_S)
