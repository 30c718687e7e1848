from dataclasses import replace
from typing import Any

import pytest

from autoscaler.kube.intent import Exit, Intent, adopt, follow, head_for, marks, replicas_now
from autoscaler.kube.pod import Pod
from autoscaler.kube.target import TargetState
from backlog.records import PoolView, ReplicaState
from tests.autoscaler.builders import record, report, running, share, view
from tests.autoscaler.kube.pods import NOON_S, a_pod

DEADLINE_S = 120.0


def pods(*some: Pod) -> dict[str, Pod]:
    return {pod.uid: pod for pod in some}


def ready(*names: str, **changes: Any) -> dict[str, Pod]:
    return pods(*(a_pod(name, **changes) for name in names))


def state(replicas: int) -> TargetState:
    return TargetState(uid="u", replicas=replicas)


def look(at_s: float, *draining: str, busy: str | None = None) -> PoolView:
    """One gateway worker's report, and these replicas listed as draining."""
    loads = {} if busy is None else running(**{busy: share()})
    listed = tuple(record(name, ReplicaState.DRAINING) for name in draining)
    return view(report(running=loads), at_s=at_s, replicas=listed)


def headed(intent: Intent, wanted: int, some: dict[str, Pod], *, by_ordinal: bool = False, **work: Any) -> Intent:
    return head_for(intent, wanted, some, look(NOON_S), work, by_ordinal=by_ordinal, now_s=NOON_S)


def followed(intent: Intent, replicas: int, some: dict[str, Pod], seen: PoolView | None, at_s: float) -> Intent:
    return follow(intent, state(replicas), some, seen, by_ordinal=False, deadline_s=DEADLINE_S, now_s=at_s)


def drained(intent: Intent, replicas: int, some: dict[str, Pod], *names: str) -> Intent:
    """After three looks in which nothing runs on these replicas."""
    for second in (1, 2, 3):
        intent = followed(intent, replicas, some, look(NOON_S + second, *names), NOON_S + second)
    return intent


def test_what_is_there_stays() -> None:
    intent = adopt(state(3), ready("a", "b", "c"), None, by_ordinal=False, now_s=NOON_S)

    assert intent == Intent(told=3, written=3)
    assert replicas_now(intent, state(3), ready("a", "b", "c"), by_ordinal=False) == 3


def test_a_new_leader_goes_on_with_the_drains_it_finds() -> None:
    some = pods(a_pod("a"), a_pod("b", draining_since_s=NOON_S - 100))

    intent = adopt(state(2), some, look(NOON_S), by_ordinal=False, now_s=NOON_S)

    assert (intent.told, intent.draining) == (1, 1)
    late = followed(intent, 2, some, look(NOON_S + 21, "b", busy="b"), NOON_S + 21)
    assert late.exits["uid-b"].done == "drain deadline of 120 s with 1 requests running"


def test_up_writes_the_number_at_once() -> None:
    intent = headed(Intent(told=1, written=1), 4, ready("a"))

    assert replicas_now(intent, state(1), ready("a"), by_ordinal=False) == 4


def test_down_marks_before_it_lowers_and_lowers_only_what_is_drained() -> None:
    some = ready("a", "b", "c")

    intent = headed(Intent(told=3, written=3), 2, some, a=(0.0, 0), b=(5.0, 2), c=(9.0, 4))

    assert [(mark.pod.name, mark.since_s) for mark in marks(intent, some)] == [("a", NOON_S)]
    assert replicas_now(intent, state(3), some, by_ordinal=False) == 3
    marked = {**some, **ready("a", draining_since_s=NOON_S, deletion_cost=-1000)}
    intent = drained(intent, 3, marked, "a")
    assert intent.exits["uid-a"].done is not None
    assert replicas_now(intent, state(3), marked, by_ordinal=False) == 2


def test_a_pod_with_requests_stays_until_they_end() -> None:
    some = ready("a", "b", draining_since_s=NOON_S, deletion_cost=-1000)
    intent = adopt(state(2), some, look(NOON_S), by_ordinal=False, now_s=NOON_S)

    for second in range(1, 60):
        intent = followed(intent, 2, some, look(NOON_S + second, "a", "b", busy="a"), NOON_S + second)

    assert replicas_now(intent, state(2), some, by_ordinal=False) == 2
    assert intent.exits["uid-a"].done is None
    assert intent.exits["uid-b"].done is not None


def test_nothing_is_lowered_while_the_mark_is_not_on_the_pod() -> None:
    """Without the deletion cost the controller would take another one."""
    some = pods(a_pod("a", at_s=NOON_S - 9), a_pod("b"))
    intent = drained(headed(Intent(told=2, written=2), 1, some, a=(0.0, 0), b=(1.0, 1)), 2, some, "a")

    assert intent.exits["uid-a"].done is not None
    assert replicas_now(intent, state(2), some, by_ordinal=False) == 2


def test_load_that_returns_revives_before_it_starts() -> None:
    some = ready("a", "b", "c")
    intent = headed(Intent(told=3, written=3), 1, some)
    assert intent.draining == 2

    back = headed(intent, 2, some)

    assert (back.told, back.draining) == (2, 1)
    assert replicas_now(back, state(3), some, by_ordinal=False) == 3
    more = headed(back, 4, some)
    assert (more.told, more.draining, more.replicas) == (4, 0, 4)


def test_a_revived_pod_loses_its_mark() -> None:
    some = ready("a", draining_since_s=NOON_S)

    assert [(mark.pod.name, mark.since_s) for mark in marks(Intent(told=1, written=1), some)] == [("a", None)]


def test_pods_that_are_not_ready_go_first_and_at_once() -> None:
    some = {**ready("a", "b"), **ready("c", ready=False)}

    intent = headed(Intent(told=3, written=3), 2, some)

    assert intent.draining == 0
    assert replicas_now(intent, state(3), some, by_ordinal=False) == 2


def test_without_a_view_only_what_is_not_ready_goes() -> None:
    some = {**ready("a", "b"), **ready("c", ready=False)}

    intent = head_for(Intent(told=3, written=3), 1, some, None, {}, by_ordinal=False, now_s=NOON_S)

    assert (intent.told, intent.draining) == (2, 0)


def test_replicas_that_have_no_pod_yet_are_cancelled() -> None:
    intent = headed(Intent(told=5, written=5), 2, ready("a", "b"))

    assert replicas_now(intent, state(5), ready("a", "b"), by_ordinal=False) == 2


def test_a_draining_pod_that_dies_takes_its_replica_with_it() -> None:
    """Its controller starts another one, which nobody wants."""
    intent = headed(Intent(told=3, written=3), 2, ready("a", "b", "c"), b=(1.0, 1), c=(1.0, 1))
    after = {**ready("b", "c"), **ready("d", ready=False)}

    intent = followed(intent, 3, after, look(NOON_S + 1), NOON_S + 1)

    assert intent.draining == 0
    assert replicas_now(intent, state(3), after, by_ordinal=False) == 2


def test_where_the_wrong_pod_went_the_drained_one_serves_again() -> None:
    some = ready("a", "b", "c")
    intent = replace(headed(Intent(told=3, written=3), 2, some, b=(1.0, 1), c=(1.0, 1)), written=2)
    done = replace(intent, exits={uid: Exit(drain=one.drain, done="x") for uid, one in intent.exits.items()})

    intent = followed(done, 2, ready("a", "b"), look(NOON_S + 1), NOON_S + 1)

    assert (intent.told, intent.exits) == (2, {})


def test_a_broken_pod_goes_instead_of_a_drained_one() -> None:
    """A ReplicaSet takes a pod that is not ready before any that is."""
    some = {**ready("b", "c"), **ready("a", draining_since_s=NOON_S, deletion_cost=-1000), **ready("d", ready=False)}
    intent = adopt(state(4), some, look(NOON_S), by_ordinal=False, now_s=NOON_S)
    intent = drained(intent, 4, some, "a")

    assert replicas_now(intent, state(4), some, by_ordinal=False) == 3

    del some["uid-d"]
    intent = followed(replace(intent, written=3), 3, some, look(NOON_S + 9, "a"), NOON_S + 9)
    assert (intent.told, intent.exits) == (3, {})


@pytest.mark.parametrize(
    ("theirs", "told", "draining"),
    [pytest.param(6, 5, 1, id="more"), pytest.param(3, 2, 1, id="less"), pytest.param(1, 1, 0, id="the drained goes")],
)
def test_somebody_elses_number_counts(theirs: int, told: int, draining: int) -> None:
    some = {**ready("b", "c", "d"), **ready("a", draining_since_s=NOON_S, deletion_cost=-1000)}
    if theirs == 3:
        # The marked pod would go first, were it ready longer than the others: cost decides before that.
        some = {**ready("b", "c"), **ready("a", draining_since_s=NOON_S, deletion_cost=-1000)}
    intent = adopt(state(4), some, look(NOON_S), by_ordinal=False, now_s=NOON_S)

    intent = followed(intent, theirs, some, look(NOON_S + 1), NOON_S + 1)

    assert (intent.told, intent.draining) == (told, draining)


def test_by_ordinal_the_highest_is_drained_whatever_runs_on_it() -> None:
    some = ready("x-0", "x-1", "x-2")

    intent = headed(Intent(told=3, written=3), 2, some, by_ordinal=True, **{"x-2": (99.0, 9)})

    assert list(intent.exits) == ["uid-x-2"]


def test_by_ordinal_a_hole_further_down_costs_the_highest_its_place() -> None:
    """A pod that is being made again is no replica that can be cancelled: the highest number would go instead."""
    some = ready("x-0", "x-1", "x-2", "x-4")

    intent = headed(Intent(told=5, written=5), 4, some, by_ordinal=True, **{"x-4": (99.0, 9)})

    assert list(intent.exits) == ["uid-x-4"]
    assert replicas_now(intent, state(5), some, by_ordinal=True) == 5
    undrained = Intent(told=4, written=5)
    assert replicas_now(undrained, state(5), some, by_ordinal=True) == 5
    assert replicas_now(undrained, state(5), ready("x-0", "x-1", "x-2", "x-3"), by_ordinal=True) == 4


def test_by_ordinal_numbers_may_begin_elsewhere() -> None:
    some, begins_at_3 = ready("x-3", "x-4"), replace(state(3), first_ordinal=3)

    assert replicas_now(Intent(told=2, written=3), begins_at_3, some, by_ordinal=True) == 2
    assert replicas_now(Intent(told=1, written=3), begins_at_3, some, by_ordinal=True) == 2


def test_by_ordinal_somebody_elses_number_takes_the_highest_whatever_is_missing() -> None:
    some = {**ready("x-0", "x-1", "x-2"), **ready("x-4", draining_since_s=NOON_S)}

    intent = adopt(state(4), some, look(NOON_S), by_ordinal=True, now_s=NOON_S)

    assert (intent.told, intent.exits) == (4, {})


def test_a_pod_whose_probe_fails_for_a_moment_keeps_its_streams() -> None:
    """A ReplicaSet takes it first, drained or not: so it is the one to drain, and nothing is lowered before."""
    some = {**ready("a", "b"), **ready("c", ready=False)}

    intent = headed(Intent(told=3, written=3), 2, some, a=(0.0, 0), b=(1.0, 1), c=(9.0, 4))

    assert list(intent.exits) == ["uid-c"]
    assert replicas_now(intent, state(3), some, by_ordinal=False, busy={"b", "c"}) == 3


def test_a_drained_pod_waits_while_another_that_would_go_first_has_streams() -> None:
    some = {
        **ready("a", draining_since_s=NOON_S, deletion_cost=-2000),
        **ready("b"),
        **ready("c", ready=False),
    }
    intent = drained(adopt(state(3), some, look(NOON_S), by_ordinal=False, now_s=NOON_S), 3, some, "a")

    assert intent.exits["uid-a"].done is not None
    assert replicas_now(intent, state(3), some, by_ordinal=False, busy={"c"}) == 3
    assert replicas_now(intent, state(3), some, by_ordinal=False, busy=None) == 3
    assert replicas_now(intent, state(3), some, by_ordinal=False, busy=set()) == 2


def test_by_ordinal_a_pod_that_no_number_takes_serves_again() -> None:
    """Somebody else made it two while the only pod drained: of two the second goes, never the first."""
    some = {**ready("x-0", draining_since_s=NOON_S), **ready("x-1")}
    found = adopt(state(2), some, look(NOON_S), by_ordinal=True, now_s=NOON_S)
    assert list(found.exits) == ["uid-x-0"]

    one = headed(found, 1, some, by_ordinal=True)

    assert (one.told, list(one.exits)) == (1, ["uid-x-1"])
