"""The pick: properties of any choice, and the trade-offs that the score was made for."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from estimator.price import Weight
from gateway.pick import Load, PickRule, ahead_s, crowd_s, has_room, interference_s, pick, score, until_room_gpu_s
from tests.gateway.builders import RULE, loads, several_loads, weight, weights

NOW_S = 100.0


def chosen(loads: list[Load], request: Weight, rule: PickRule = RULE, *, salt: int = 0) -> str | None:
    made = pick(loads, request, rule, NOW_S, salt=salt)
    return None if made is None else made.replica


# Properties


@given(several_loads, weights, st.randoms(use_true_random=False), st.integers(0, 2**40))
def test_the_order_of_replicas_does_not_matter(loads: list[Load], request: Weight, rng, salt: int) -> None:  # type: ignore[no-untyped-def]
    shuffled = list(loads)
    rng.shuffle(shuffled)
    assert pick(loads, request, RULE, NOW_S, salt=salt) == pick(shuffled, request, RULE, NOW_S, salt=salt)


@given(several_loads, weights, st.integers(0, 2**40))
def test_the_choice_has_room_and_no_replica_with_room_scores_less(
    loads: list[Load], request: Weight, salt: int
) -> None:
    made = pick(loads, request, RULE, NOW_S, salt=salt)
    fit = [load for load in loads if has_room(load, request, RULE, NOW_S)]
    if made is None:
        assert not fit
        return
    assert made.replica in {load.name for load in fit}
    assert made.score_s == min(score(load, request, RULE, NOW_S).score_s for load in fit)


@given(several_loads, weights, loads, st.integers(0, 2**40))
def test_adding_a_worse_replica_changes_nothing(loads: list[Load], request: Weight, other: Load, salt: int) -> None:
    made = pick(loads, request, RULE, NOW_S, salt=salt)
    assume(made is not None and other.name not in {load.name for load in loads})
    assert made is not None
    assume(score(other, request, RULE, NOW_S).score_s > made.score_s or not has_room(other, request, RULE, NOW_S))
    assert pick([*loads, other], request, RULE, NOW_S, salt=salt) == made


@given(loads, weights)
def test_an_empty_replica_has_room_for_anything(load: Load, request: Weight) -> None:
    load.in_flight = 0
    assert has_room(load, request, RULE, NOW_S)
    assert chosen([load], request) == load.name


@given(loads, weights)
def test_the_parts_add_up_and_none_is_negative(load: Load, request: Weight) -> None:
    made = score(load, request, RULE, NOW_S)
    parts = (made.ahead_s, made.interference_s, made.crowd_s, made.overflow_s)
    assert min(parts) >= 0.0
    assert made.score_s == pytest.approx(sum(parts) + request.prefill_s)


@given(loads, weights, st.sampled_from(["in_flight", "prefill_s", "prefill_tokens", "kv_tokens"]), st.integers(1, 9))
def test_more_of_any_load_never_lowers_the_score(load: Load, request: Weight, field: str, more: int) -> None:
    heavier = replace(load, **{field: getattr(load, field) + more})
    assert score(heavier, request, RULE, NOW_S).score_s >= score(load, request, RULE, NOW_S).score_s


@given(loads, weights)
def test_where_its_kv_fits_the_score_is_a_line_over_what_the_request_costs_each_other_one(
    load: Load, request: Weight
) -> None:
    assume(load.kv_tokens + request.kv_tokens <= RULE.kv_capacity_tokens)
    fixed_s = ahead_s(load, NOW_S) + interference_s(load, RULE) + request.prefill_s
    assert score(load, request, RULE, NOW_S).score_s == pytest.approx(fixed_s + load.in_flight * crowd_s(request, RULE))


@given(several_loads, weights)
def test_a_line_per_replica_is_enough_to_find_the_best_one(loads: list[Load], request: Weight) -> None:
    fit = [load for load in loads if load.kv_tokens + request.kv_tokens <= RULE.kv_capacity_tokens]
    assume(fit)
    lines_s = {
        load.name: ahead_s(load, NOW_S) + interference_s(load, RULE) + load.in_flight * crowd_s(request, RULE)
        for load in fit
    }
    scores_s = {load.name: score(load, request, RULE, NOW_S).score_s for load in fit}
    best = min(lines_s, key=lines_s.__getitem__)
    assert scores_s[best] == pytest.approx(min(scores_s.values()))


def test_the_parts_of_the_line() -> None:
    load = Load(name="r", in_flight=4, prefill_tokens=2048, kv_tokens=50_000)
    assert interference_s(load, RULE) == pytest.approx(1.5 * 50_000 * 1.8e-7 * 2.0)
    assert crowd_s(weight(0.5, 10.0), RULE) == pytest.approx(0.001 + 0.01 * (0.5 + 2.0))
    assert interference_s(Load(name="idle"), RULE) == 0.0


# Room


@pytest.mark.parametrize(
    ("load", "room"),
    [
        pytest.param(Load(name="r"), True, id="empty"),
        pytest.param(Load(name="r", in_flight=9, kv_tokens=98_900), True, id="its KV just fits"),
        pytest.param(Load(name="r", in_flight=9, kv_tokens=98_901), False, id="its KV does not fit"),
        pytest.param(Load(name="r", in_flight=1, prefill_s=0.25, progressed_at_s=NOW_S), True, id="prefill at bound"),
        pytest.param(Load(name="r", in_flight=1, prefill_s=0.26, progressed_at_s=NOW_S), False, id="prefill beyond it"),
        pytest.param(
            Load(name="r", in_flight=1, prefill_s=0.4, progressed_at_s=NOW_S - 0.2), True, id="half of it must be done"
        ),
        pytest.param(
            Load(name="r", in_flight=1, prefill_s=4.0, progressed_at_s=NOW_S - 99), False, id="a tenth is left at least"
        ),
    ],
)  # fmt: skip
def test_room(load: Load, room: bool) -> None:
    assert has_room(load, weight(input_tokens=700), RULE, NOW_S) is room


SLOTS = replace(RULE, max_in_flight=4)


@pytest.mark.parametrize(
    ("load", "room"),
    [
        pytest.param(Load(name="r"), True, id="empty"),
        pytest.param(Load(name="r", in_flight=3), True, id="the last slot"),
        pytest.param(Load(name="r", in_flight=4), False, id="no slot"),
        pytest.param(Load(name="r", in_flight=9), False, id="more than there are slots"),
        pytest.param(Load(name="r", in_flight=3, kv_tokens=98_901), False, id="a slot, but its KV does not fit"),
        pytest.param(
            Load(name="r", in_flight=3, prefill_s=0.26, progressed_at_s=NOW_S), False, id="a slot, but prefill ahead"
        ),
    ],
)
def test_room_where_slots_are_counted(load: Load, room: bool) -> None:
    assert has_room(load, weight(input_tokens=700), SLOTS, NOW_S) is room


def test_a_replica_with_a_free_slot_is_chosen_though_its_score_is_worse() -> None:
    full = Load(name="full", in_flight=4)
    slow = Load(name="slow", in_flight=3, prefill_s=0.2, progressed_at_s=NOW_S)
    assert chosen([full, slow], weight(), SLOTS) == "slow"
    assert chosen([full, slow], weight()) == "full"
    assert chosen([full, replace(slow, in_flight=4)], weight(), SLOTS) is None


@given(several_loads, weights, st.integers(1, 80))
def test_slots_only_take_room_away(loads: list[Load], request: Weight, slots: int) -> None:
    rule = replace(RULE, max_in_flight=slots)
    for load in loads:
        free = load.in_flight < slots
        assert has_room(load, request, rule, NOW_S) is (free and has_room(load, request, RULE, NOW_S))


@pytest.mark.parametrize(
    ("load", "expected_gpu_s"),
    [
        pytest.param(Load(name="r", in_flight=3, remaining_gpu_s=8.0), 0.0, id="a slot is free"),
        pytest.param(Load(name="r", in_flight=4, remaining_gpu_s=8.0), 2.0, id="one of four must end"),
        pytest.param(Load(name="r", in_flight=8, remaining_gpu_s=8.0), 5.0, id="five of eight must end"),
        pytest.param(Load(name="r", in_flight=4, remaining_gpu_s=8.0, scale=2.0), 4.0, id="on a slow replica"),
        pytest.param(
            Load(name="r", in_flight=4, remaining_gpu_s=8.0, kv_tokens=90_000), 2.0, id="KV comes free before"
        ),
        pytest.param(
            Load(name="r", in_flight=4, remaining_gpu_s=8.0, kv_tokens=150_000), 4.0, id="KV comes free later"
        ),
        pytest.param(
            Load(name="r", in_flight=4, remaining_gpu_s=8.0, prefill_s=3.25, progressed_at_s=NOW_S), 6.0,
            id="prefill on two GPUs is done later",
        ),
    ],
)  # fmt: skip
def test_what_is_done_before_a_slot_is_free(load: Load, expected_gpu_s: float) -> None:
    assert until_room_gpu_s(load, 25_000, SLOTS, NOW_S, gpus=2) == pytest.approx(expected_gpu_s)


def test_a_request_larger_than_the_kv_cache_goes_to_an_empty_replica_only() -> None:
    huge = weight(input_tokens=200_000)
    assert chosen([Load(name="idle"), Load(name="busy", in_flight=1)], huge) == "idle"
    assert chosen([Load(name="busy", in_flight=1)], huge) is None


@pytest.mark.parametrize(
    ("load", "kv_tokens", "expected_gpu_s"),
    [
        pytest.param(Load(name="r"), 200_000, 0.0, id="empty"),
        pytest.param(Load(name="r", in_flight=1, kv_tokens=90_000, remaining_gpu_s=9.0), 10_000, 0.0, id="it fits"),
        pytest.param(
            Load(name="r", in_flight=1, kv_tokens=90_000, remaining_gpu_s=9.0), 11_000, 0.1, id="1000 too many"
        ),
        pytest.param(
            Load(name="r", in_flight=1, kv_tokens=90_000, remaining_gpu_s=9.0), 300_000, 9.0, id="too large: all of it"
        ),
        pytest.param(Load(name="r", in_flight=1, remaining_gpu_s=9.0), 300_000, 9.0, id="no KV, and too large"),
        pytest.param(
            Load(name="r", in_flight=1, prefill_s=1.0, progressed_at_s=NOW_S, remaining_gpu_s=9.0), 1, 1.5,
            id="prefill over its bound, on two GPUs",
        ),
        pytest.param(
            Load(name="r", in_flight=1, prefill_s=1.0, progressed_at_s=NOW_S, kv_tokens=100_000, remaining_gpu_s=9.0),
            50_000, 4.5, id="both: the longer one",
        ),
    ],
)  # fmt: skip
def test_what_is_done_before_there_is_room(load: Load, kv_tokens: int, expected_gpu_s: float) -> None:
    assert until_room_gpu_s(load, kv_tokens, RULE, NOW_S, gpus=2) == pytest.approx(expected_gpu_s)


@given(loads, weights)
def test_nothing_is_done_before_there_is_room_only_where_there_is(load: Load, request: Weight) -> None:
    load = replace(load, remaining_gpu_s=1.0)
    found_gpu_s = until_room_gpu_s(load, request.kv_tokens, RULE, NOW_S, gpus=1)
    assert found_gpu_s >= 0.0
    assert (found_gpu_s == 0.0) is has_room(load, request, RULE, NOW_S)


def test_no_replica_means_no_choice() -> None:
    assert pick([], weight(), RULE, NOW_S) is None


@pytest.mark.parametrize(
    ("outstanding_s", "progressed_at_s", "expected_s"),
    [
        pytest.param(0.0, 0.0, 0.0, id="nothing outstanding"),
        pytest.param(-1e-9, 0.0, 0.0, id="rounded below nothing"),
        pytest.param(1.0, NOW_S, 1.0, id="just begun"),
        pytest.param(1.0, NOW_S - 0.25, 0.75, id="a quarter done"),
        pytest.param(1.0, NOW_S - 50.0, 0.1, id="late: a tenth is left"),
        pytest.param(1.0, NOW_S + 5.0, 1.0, id="progress heard from the future"),
    ],
)
def test_prefill_ahead(outstanding_s: float, progressed_at_s: float, expected_s: float) -> None:
    load = Load(name="r", prefill_s=outstanding_s, progressed_at_s=progressed_at_s)
    assert ahead_s(load, NOW_S) == pytest.approx(expected_s)


# Trade-offs


def test_less_prefill_ahead_wins() -> None:
    near = Load(name="near", in_flight=1, prefill_s=0.05, progressed_at_s=NOW_S)
    far = Load(name="far", in_flight=1, prefill_s=0.2, progressed_at_s=NOW_S)
    assert chosen([far, near], weight()) == "near"


def test_among_idle_prefill_the_one_that_decodes_least_wins() -> None:
    crowded = Load(name="crowded", in_flight=30, kv_tokens=30_000)
    quiet = Load(name="quiet", in_flight=2, kv_tokens=2_000)
    assert chosen([crowded, quiet], weight()) == "quiet"


def test_long_prompts_keep_away_from_replicas_that_decode_and_short_ones_need_not() -> None:
    decoding = Load(name="decoding", in_flight=20, kv_tokens=20_000)
    prefilling = Load(name="prefilling", in_flight=1, kv_tokens=1_000, prefill_s=0.15, progressed_at_s=NOW_S)
    short, long = weight(prefill_s=0.01, input_tokens=140), weight(prefill_s=2.5, input_tokens=30_000)
    assert chosen([decoding, prefilling], short) == "decoding"
    assert chosen([decoding, prefilling], long) == "prefilling"
    assert chosen([decoding, prefilling], long, replace(RULE, externality=0.0)) == "decoding"


def test_kv_overflow_costs_more_than_any_wait() -> None:
    empty_but_small = Load(name="a")
    assert score(empty_but_small, weight(input_tokens=150_000), RULE, NOW_S).overflow_s > 1.0
    assert score(empty_but_small, weight(), RULE, NOW_S).overflow_s == 0.0


# Ties


@pytest.mark.parametrize("replicas", [2, 3, 7, 10, 16])
def test_ties_spread_evenly_over_requests(replicas: int) -> None:
    idle = [Load(name=f"r{n}") for n in range(replicas)]
    counts = Counter(chosen(idle, weight(), salt=salt) for salt in range(1, 4001))
    fair = 4000 / replicas
    assert len(counts) == replicas
    assert max(counts.values()) < 1.35 * fair
    assert min(counts.values()) > 0.65 * fair


def test_ties_do_not_follow_the_order_of_requests() -> None:
    idle = [Load(name=f"r{n}") for n in range(4)]
    order = [chosen(idle, weight(), salt=salt) for salt in range(64)]
    assert all(order[:period] * (64 // period) != order for period in (1, 2, 4, 8, 16, 32))


def test_one_request_breaks_a_tie_the_same_way_everywhere() -> None:
    idle = [Load(name=f"r{n}") for n in range(5)]
    # Written down: a hash that changed from process to process would pass every other test here.
    assert [chosen(idle, weight(), salt=salt) for salt in (1, 2, 3)] == ["r4", "r1", "r0"]
