"""A contender's transitions, one by one, and how long it takes until somebody leads."""

import pytest

from autoscaler.kube.contender import Contender, Found, Put, Read, Refused, Silence, Sleep, Written
from autoscaler.kube.lease import LeaderLease, LeaseTerms, Role
from tests.autoscaler.kube.lease_world import DURATION_S, RENEW_DEADLINE_S, RETRY_S, Fate, World

TERMS = LeaseTerms(identity="me")


def lease(holder: str, *, version: str = "1", duration_s: float = 15.0) -> LeaderLease:
    return LeaderLease(holder=holder, renewed="then", transitions=3, duration_s=duration_s, version=version)


def leader(now_s: float = 0.0) -> Contender:
    contender = Contender(TERMS, now_s)
    contender.ask(now_s)
    contender.hear(Found(lease=None), now_s)
    contender.ask(now_s)
    contender.hear(Written(lease=lease("me")), now_s)
    assert contender.leads(now_s)
    return contender


@pytest.mark.parametrize(
    ("found", "version", "transitions", "taken"),
    [
        pytest.param(None, None, 0, True, id="there is no lease"),
        pytest.param(lease(""), "1", 4, True, id="it was given back"),
        pytest.param(lease("me"), "1", 3, False, id="an earlier write of its own was done after all"),
    ],
)
def test_a_free_lease_is_taken_at_once(
    found: LeaderLease | None, version: str | None, transitions: int, taken: bool
) -> None:
    contender = Contender(TERMS, 0.0)
    assert isinstance(contender.ask(0.0), Read)
    contender.hear(Found(lease=found), 0.1)
    assert contender.role is Role.CANDIDATE
    asked = contender.ask(0.1)
    assert isinstance(asked, Put)
    assert (asked.write.holder, asked.write.version) == ("me", version)
    assert (asked.write.transitions, asked.write.taken) == (transitions, taken)
    assert not contender.leads(0.1), "not before it is confirmed"


def test_a_held_lease_is_looked_at_until_it_has_not_changed_for_its_duration() -> None:
    contender, now_s, looks = Contender(TERMS, 0.0), 0.0, 0
    while isinstance(contender.ask(now_s), Read):
        contender.hear(Found(lease=lease("other")), now_s)
        asked = contender.ask(now_s)
        if isinstance(asked, Put):
            break
        assert isinstance(asked, Sleep)
        assert contender.role is Role.FOLLOWER
        now_s += asked.seconds
        looks += 1
    assert now_s == pytest.approx(DURATION_S)
    assert looks == 8, "seven of 2 s, and one that ends just then"


def test_a_holder_that_was_promised_more_gets_it() -> None:
    contender, now_s = Contender(TERMS, 0.0), 0.0
    for _ in range(15):
        contender.ask(now_s)
        contender.hear(Found(lease=lease("other", duration_s=60.0)), now_s)
        asked = contender.ask(now_s)
        assert isinstance(asked, Sleep)
        now_s += asked.seconds
    assert now_s == 30.0


def test_the_lead_is_counted_from_the_beginning_of_the_write_that_was_confirmed() -> None:
    contender = Contender(TERMS, 0.0)
    contender.ask(0.0)
    contender.hear(Found(lease=None), 1.0)
    contender.ask(1.0)
    contender.hear(Written(lease=lease("me")), 5.0)
    assert contender.leads(1.0 + RENEW_DEADLINE_S - 0.1)
    assert not contender.leads(1.0 + RENEW_DEADLINE_S)


def test_a_leader_renews_without_reading_and_its_requests_end_before_its_lead() -> None:
    contender = leader()
    assert isinstance(contender.ask(0.0), Sleep)
    asked = contender.ask(2.0)
    assert isinstance(asked, Put)
    assert not asked.write.taken
    contender.hear(Silence(), 7.0)
    assert contender.ask(7.0) == Sleep(seconds=RETRY_S)
    last = contender.ask(9.0)
    assert isinstance(last, Read)
    assert last.limit_s == pytest.approx(1.0)


def test_a_refused_renewal_reads_and_goes_on_if_the_lease_is_still_its_own() -> None:
    contender = leader()
    contender.ask(0.0)
    contender.ask(2.0)
    contender.hear(Refused(), 2.0)
    assert isinstance(contender.ask(2.0), Read)
    contender.hear(Found(lease=lease("me", version="7")), 2.0)
    asked = contender.ask(2.0)
    assert isinstance(asked, Put)
    assert asked.write.version == "7"


@pytest.mark.parametrize("found", [None, lease("other", version="9")], ids=["deleted", "another's"])
def test_a_leader_whose_lease_is_not_its_own_stops_when_it_sees_that(found: LeaderLease | None) -> None:
    contender = leader()
    contender.ask(0.0)
    contender.ask(2.0)
    contender.hear(Refused(), 2.0)
    contender.ask(2.0)
    contender.hear(Found(lease=found), 2.0)
    assert not contender.leads(2.0)


def test_a_clock_that_goes_back_ends_the_lead() -> None:
    contender = leader(now_s=100.0)
    assert not contender.leads(99.0)
    contender.ask(99.0)
    assert not contender.leads(103.0)


def test_two_that_refuse_each_other_go_to_sleep_between() -> None:
    contender, requests = Contender(TERMS, 0.0), 0
    while not isinstance(asked := contender.ask(0.0), Sleep):
        contender.hear(Found(lease=None) if isinstance(asked, Read) else Refused(), 0.0)
        requests += 1
    assert requests == 6


def test_a_dead_leader_is_replaced_within_the_lease_and_a_retry() -> None:
    world = World()
    first = world.add()
    world.run(1.0)
    world.add(ahead_s=-5000.0)
    world.run(20.0)
    assert world.leaders() == [first]
    world.kill(first)
    world.run(DURATION_S + RETRY_S)
    assert [node is first for node in world.leaders()] == [False]


def test_a_lease_that_was_given_back_is_taken_at_the_next_look() -> None:
    world = World()
    first = world.add()
    world.run(1.0)
    world.add()
    world.run(5.0)
    world.stop(first)
    world.run(RETRY_S + 0.1)
    assert [node is first for node in world.leaders()] == [False]


def test_a_jump_of_a_followers_clock_takes_nothing_from_a_leader_that_cannot_renew() -> None:
    world = World()
    first = world.add()
    world.run(1.0)
    second = world.add()
    world.run(5.0)
    world.cut_off(first, 60.0)
    world.run(3.0)
    world.jump(second, 3600.0)
    world.run(2.5)
    assert world.leaders() == [first]
    world.run(20.0)
    assert world.leaders() == [second]


def test_while_the_server_is_away_for_two_minutes_nobody_leads_and_soon_after_one_does() -> None:
    world = World()
    nodes = [world.add(ahead_s=ahead_s) for ahead_s in (0.0, 1e6, -1e6)]
    world.run(5.0)
    assert len(world.leaders()) == 1
    for node in nodes:
        world.cut_off(node, 120.0)
    world.run(RENEW_DEADLINE_S)
    assert world.leaders() == []
    world.run(109.0)
    assert world.leaders() == []
    world.run(1.0 + RENEW_DEADLINE_S / 2 + RETRY_S)
    assert len(world.leaders()) == 1


def test_a_write_that_is_done_long_after_it_was_given_up_makes_no_leader() -> None:
    world = World()
    world.fates = iter([Fate(), Fate(there_s=8.0)])
    world.add()
    world.run(5.5)
    assert world.leaders() == []
    world.run(20.0)
    assert len(world.leaders()) == 1


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"identity": ""}, "identity"),
        ({"retry_s": 0.0}, "retry_s > 0"),
        ({"retry_s": 6.0}, "2 x retry_s"),
        ({"renew_deadline_s": 14.0}, r"renew_deadline_s \+ retry_s"),
    ],
    ids=["no identity", "no pause", "one try per lead", "no margin"],
)
def test_terms_without_room_are_refused(changes: dict[str, float], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        LeaseTerms(**{"identity": "me", **changes})  # type: ignore[arg-type]
