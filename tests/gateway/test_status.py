"""The status page adds workers up, and says null for what is not known."""

from typing import Any

import msgspec
import pytest

from backlog.records import PoolView, ReplicaState
from gateway.snapshot import SpillState, WorkerState, pool_state
from gateway.status import status
from tests.gateway.builders import POOL, decision, pool, pool_settings, record, view, weight
from tests.gateway.guests import Guest

NOW_S = 50.0


def worker(number: int, **changes: Any) -> WorkerState:
    one = pool(replicas=2)
    one.stats.count("llama", "served")
    one.stats.count("alias", "served")
    one.stats.bill("blue", "prefill", 0.25)
    one.stats.bill("blue", "decode", 0.5)
    one.stats.input_tokens = 700
    Guest(one, arrived_at_s=40.0 + number, weight=weight(0.05, 0.1)).wait()
    values: dict[str, Any] = {
        "worker": f"host-{number}",
        "number": number,
        "draining": False,
        "connections": 3,
        "backlog_age_s": 0.1 * (number + 1),
        "backlog_error": None,
        "refusals": {},
        "pools": {POOL: pool_state(one, NOW_S)},
    }
    return WorkerState(**(values | changes))


def page(
    *workers: WorkerState, views: tuple[PoolView, ...] = (), decisions: Any = (), error: str | None = None
) -> dict[str, Any]:
    settings = pool_settings(replicas=2)
    made = status(
        list(workers),
        [settings],
        {POOL: settings.price()},
        {one.pool: one for one in views},
        {POOL: decisions},
        error,
    )
    return msgspec.json.decode(msgspec.json.encode(made))  # type: ignore[no-any-return]


def test_workers_add_up() -> None:
    made = page(worker(0), worker(1))
    assert (made["workers"], made["connections"], made["draining"]) == (2, 6, False)
    assert made["backlog_age_s"] == pytest.approx(0.2)
    shown = made["pools"][POOL]
    assert (shown["waiting"], shown["oldest_waiting_age_s"], shown["input_tokens"]) == (2, 10.0, 1400)
    assert shown["waiting_gpu_s"] == pytest.approx(0.3)
    assert shown["outcomes"] == {"served": 4}
    assert shown["used_gpu_s_by_tenant"] == {"blue": 1.5}
    assert shown["used_gpu_s"] == 1.5
    assert [replica["name"] for replica in shown["replicas"]] == ["r0", "r1"]
    assert shown["ready"] == 2
    assert shown["gpus_per_replica"] == 1


def spilling(number: int, money_left: float | None) -> WorkerState:
    """A worker that has spilled `number` requests."""
    state = worker(number)
    spill = SpillState(
        model="azure/small",
        in_flight=1,
        answering=number > 1,
        money=0.5,
        money_left=money_left,
        input_per_mtok=0.25,
        output_per_mtok=None,
        failures=2,
        spilled={"starting": number, f"of {number}": 1},
        stayed={},
    )
    pools = {POOL: msgspec.structs.replace(state.pools[POOL], spill=spill)}
    return msgspec.structs.replace(state, pools=pools)


def test_what_workers_spill_adds_up_and_a_pool_without_says_null() -> None:
    assert page(worker(0))["pools"][POOL]["spill"] is None
    assert page(spilling(1, 3.0), spilling(2, 4.0))["pools"][POOL]["spill"] == {
        "model": "azure/small",
        "input_per_mtok": 0.25,
        "output_per_mtok": None,
        "answering": True,
        "in_flight": 2,
        "money": 1.0,
        "money_left": 7.0,
        "failures": 4,
        "spilled": {"starting": 3, "of 1": 1, "of 2": 1},
        "stayed": {},
    }


def test_what_one_worker_does_not_know_of_the_cap_is_known_by_nobody() -> None:
    assert page(spilling(1, 3.0), spilling(2, None))["pools"][POOL]["spill"]["money_left"] is None


def test_one_draining_worker_makes_the_gateway_drain() -> None:
    assert page(worker(0), worker(1, draining=True))["draining"] is True


def test_without_workers_everything_is_unknown_or_nothing() -> None:
    made = page()
    assert (made["workers"], made["backlog_age_s"], made["backlog_error"]) == (0, None, None)
    shown = made["pools"][POOL]
    assert (shown["waiting"], shown["oldest_waiting_age_s"], shown["wait_estimate_s"]) == (0, None, None)
    assert (shown["replicas"], shown["decision"], shown["offered_load"]) == ([], None, None)


@pytest.mark.parametrize(
    ("own", "workers", "shown"),
    [
        pytest.param(None, (None, None), None, id="Redis answers everybody"),
        pytest.param("refused", (None, "timeout"), "refused", id="the supervisor's own reason first"),
        pytest.param(None, (None, "timeout"), "timeout", id="else a worker's"),
    ],
)
def test_why_redis_is_away(own: str | None, workers: tuple[str | None, str | None], shown: str | None) -> None:
    states = [worker(n, backlog_error=error) for n, error in enumerate(workers)]
    assert page(*states, error=own)["backlog_error"] == shown


def test_a_worker_that_never_heard_redis_has_no_age() -> None:
    assert page(worker(0, backlog_age_s=None))["backlog_age_s"] is None


def test_replicas_that_only_the_scaler_knows_are_listed_once() -> None:
    replicas = (record("r1"), record("r9", ReplicaState.STARTING))
    shown = page(worker(0), views=(view(replicas=replicas),))["pools"][POOL]["replicas"]
    assert [(replica["name"], replica["state"]) for replica in shown] == [
        ("r0", "ready"),
        ("r1", "ready"),
        ("r9", "starting"),
    ]


def test_the_last_decision_and_the_history_are_shown() -> None:
    last = decision()
    shown = page(worker(0), views=(view(decided=last),), decisions=[last, last])["pools"][POOL]
    assert shown["decision"]["headline"] == "bounds"
    assert shown["offered_load"] == 1.5
    assert len(shown["decisions"]) == 2


def test_a_worker_that_lacks_a_pool_adds_nothing() -> None:
    assert page(worker(0), worker(1, pools={}))["pools"][POOL]["waiting"] == 1
