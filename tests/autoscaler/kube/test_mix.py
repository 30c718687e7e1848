from hypothesis import given
from hypothesis import strategies as st

from autoscaler.kube.mix import Share, bounds, describe, place, units


def a_share(name: str = "h100", replicas: int = 0, *, most: int = 8, least: int = 0, **changes: object) -> Share:
    return Share(name=name, replicas=replicas, minimum=least, maximum=most, **changes)  # type: ignore[arg-type]


def counts(shares: tuple[Share, ...]) -> dict[str, int]:
    return {share.name: share.replicas for share in shares}


def test_a_fleet_counts_as_its_whole_reference_replicas() -> None:
    assert units([a_share(replicas=2), a_share("l40s", 3, speed=0.5)]) == 3
    assert units([a_share("l40s", 1, speed=0.25)]) == 1
    assert units([a_share()]) == 0


def test_float_noise_costs_no_replica() -> None:
    assert units([a_share("third", 3, speed=1 / 3)]) == 1
    assert units([a_share("tenth", 30, speed=0.1)]) == 3


def test_one_target_of_the_reference_gpu_gets_what_is_decided() -> None:
    assert counts(place([a_share(replicas=2)], 5)) == {"h100": 5}
    assert counts(place([a_share(replicas=5)], 1)) == {"h100": 1}


def test_the_cheapest_work_grows_first_and_shrinks_last() -> None:
    cheap = a_share("l40s", 1, speed=0.5, cost_per_hour=1.0, most=4)
    dear = a_share("h100", 1, cost_per_hour=4.0)

    grown = place([dear, cheap], 4)

    # 1 + 4 x 0.5 is 3: the fourth is worth an H100.
    assert counts(grown) == {"h100": 2, "l40s": 4}
    assert counts(place(grown, 2)) == {"h100": 0, "l40s": 4}


def test_a_target_without_a_price_comes_after_those_with_one() -> None:
    assert counts(place([a_share("unknown"), a_share("known", cost_per_hour=99.0)], 2)) == {"unknown": 0, "known": 2}


def test_where_the_cheap_gpu_has_no_room_the_next_one_grows() -> None:
    full = a_share("l40s", 1, cost_per_hour=1.0, blocked=True)

    assert counts(place([full, a_share("h100", cost_per_hour=4.0)], 3)) == {"l40s": 1, "h100": 2}


def test_the_own_bounds_of_a_target_hold() -> None:
    shares = [a_share("a", 0, least=1, most=2), a_share("b", 9, most=3)]

    assert counts(place(shares, 20)) == {"a": 2, "b": 3}
    assert counts(place(shares, 0)) == {"a": 1, "b": 0}
    assert bounds(shares) == (1, 5)


def test_the_placement_is_told_cheapest_first() -> None:
    told = describe([a_share("h100", 2, cost_per_hour=4.0), a_share("l40s", 8, speed=0.5, cost_per_hour=1.0)])

    assert told == (
        "cheapest GPU-second first: 8 of l40s (each 0.50 at 2.00 an hour, full), 2 of h100 (each 1.00 at 4.00 an hour)"
    )


some_shares = st.lists(
    st.builds(
        lambda low, more, replicas, speed, cost, blocked: Share(
            name="t",
            replicas=replicas,
            minimum=low,
            maximum=low + more,
            speed=speed,
            cost_per_hour=cost,
            blocked=blocked,
        ),
        st.integers(0, 3),
        st.integers(0, 6),
        st.integers(0, 12),
        st.floats(0.1, 3.0),
        st.none() | st.floats(0.1, 50.0),
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
)


@given(some_shares, st.integers(0, 30))
def test_a_placement_is_within_bounds_and_stays_as_it_is(shares: list[Share], desired: int) -> None:
    placed = place(shares, desired)

    assert all(share.minimum <= share.replicas <= share.maximum for share in placed)
    assert place(placed, units(placed)) == placed


@given(some_shares, st.integers(0, 30))
def test_a_placement_is_worth_what_is_decided_where_there_is_room(shares: list[Share], desired: int) -> None:
    placed = place(shares, desired)
    room = any(share.replicas < share.maximum and not share.blocked for share in placed)

    assert units(placed) >= desired or not room
