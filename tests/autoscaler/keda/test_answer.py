"""What KEDA is told about a pool, from values."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.keda.answer import Answer, Unanswered, answer, decision_limit_s
from backlog.records import PoolView, QueueLine, QueueView, ReplicaState
from tests.autoscaler.builders import START_S, record, report, settings, view
from tests.autoscaler.keda.builders import decided

LIMIT_S = 60.0
STARTING, READY, DRAINING = ReplicaState.STARTING, ReplicaState.READY, ReplicaState.DRAINING


def seen(desired: int, *states: ReplicaState, waiting: int = 0, queued: int = 0, **changes: Any) -> PoolView:
    replicas = tuple(record(f"r{index}", state) for index, state in enumerate(states))
    lines = (QueueLine(priority=0, tenant="a", tickets=queued, gpu_s=1.0, finish_v=0.0),) if queued else ()
    found = view(report(waiting=waiting), replicas=replicas)
    return replace(found, **({"decision": decided(desired), "queue": QueueView(lines=lines)} | changes))


def drained(desired: int, *states: ReplicaState) -> PoolView:
    """Those that drain may go."""
    found = seen(desired, *states)
    records = tuple(replace(one, drained=one.state is DRAINING) for one in found.replicas or ())
    return replace(found, replicas=records)


@pytest.mark.parametrize(
    ("found", "replicas", "active"),
    [
        pytest.param(seen(3, READY, READY, READY), 3, True, id="what is decided"),
        pytest.param(seen(5, READY, READY), 5, True, id="more than there are"),
        pytest.param(seen(2, READY, READY, DRAINING), 3, True, id="a drain holds its replica"),
        pytest.param(drained(2, READY, READY, DRAINING), 2, True, id="the number falls when the drain is over"),
        pytest.param(drained(0, DRAINING), 0, False, id="the last one has drained"),
        pytest.param(seen(2, READY, READY, READY), 3, True, id="decided down, but gateways still send to it"),
        pytest.param(seen(1, READY, STARTING, STARTING), 1, True, id="starts that are not wanted any more"),
        pytest.param(seen(0), 0, False, id="zero and nothing to do"),
        pytest.param(seen(0, DRAINING), 1, True, id="the last one drains"),
        pytest.param(seen(0, waiting=1), 0, True, id="work waits in a worker at zero"),
        pytest.param(seen(0, queued=2), 0, True, id="work waits in the queue at zero"),
    ],
)
def test_a_replica_counts_while_gateways_use_it(found: PoolView, replicas: int, active: bool) -> None:
    assert answer(found, limit_s=LIMIT_S) == Answer(replicas=replicas, active=active)


@pytest.mark.parametrize(
    ("found", "cause"),
    [
        pytest.param(seen(1, READY, decision=None), "no decision", id="no decision"),
        pytest.param(seen(1, READY, replicas=None), "no replica list", id="no list"),
        pytest.param(seen(1, READY, decision=decided(1, at_s=START_S - 61)), "61 s old, the limit is 60 s", id="old"),
        pytest.param(seen(1, READY, decision=decided(1, at_s=START_S + 61)), "-61 s old", id="a clock is wrong"),
        pytest.param(seen(0, waiting=3, decision=None), "no decision", id="unknown although work waits"),
    ],
)
def test_what_is_not_known_is_not_answered(found: PoolView, cause: str) -> None:
    said = answer(found, limit_s=LIMIT_S)
    assert isinstance(said, Unanswered)
    assert cause in said.cause


def test_a_decision_as_old_as_the_limit_is_answered_from() -> None:
    found = seen(1, READY, decision=decided(1, at_s=START_S - LIMIT_S))
    assert isinstance(answer(found, limit_s=LIMIT_S), Answer)


@pytest.mark.parametrize(
    ("desired", "ratio", "replicas"),
    [
        pytest.param(2, 2.0, 4, id="half as fast"),
        pytest.param(2, 1.2, 3, id="a little slower"),
        pytest.param(4, 0.25, 1, id="four times as fast"),
        pytest.param(3, 1 / 3, 1, id="no rounding up of an error"),
    ],
)
def test_pods_are_counted_where_decisions_count_replicas_on_the_pools_gpu(
    desired: int, ratio: float, replicas: int
) -> None:
    (one,) = seen(desired, READY).replicas or ()
    said = answer(replace(seen(desired), replicas=(replace(one, ratio=ratio),)), limit_s=LIMIT_S)
    assert said == Answer(replicas=replicas, active=True)


@given(desired=st.integers(0, 20), states=st.lists(st.sampled_from(ReplicaState), max_size=20))
def test_no_replica_that_gateways_use_is_ever_given_up(desired: int, states: list[ReplicaState]) -> None:
    said = answer(seen(desired, *states), limit_s=LIMIT_S)
    assert isinstance(said, Answer)
    assert said.replicas >= desired
    assert said.replicas >= sum(state is not STARTING for state in states)


@pytest.mark.parametrize(
    ("polling_s", "limit_s"),
    [pytest.param(5.0, 60.0, id="usual pace"), pytest.param(40.0, 120.0, id="slow pace")],
)
def test_a_pool_that_decides_slowly_has_a_longer_limit(polling_s: float, limit_s: float) -> None:
    assert decision_limit_s(settings(polling_s=polling_s, average_s=120.0)) == limit_s
