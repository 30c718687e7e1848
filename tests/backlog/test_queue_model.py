"""Any order of turns, deaths, expiries and forgotten scripts: Redis holds what `backlog.order.Queue` says."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from redis import Redis

from backlog import turn as turn_module
from backlog.order import Order, key_s
from backlog.records import Claimed, PoolName, ReplicaName, ReplicaState, TicketId, WorkerId
from backlog.scripts import Script
from backlog.store import Backlog, connect
from backlog.ticket import Charges, Offer, Pending, Ticket
from backlog.turn import Claim, Reply, Turn
from tests.backlog import samples
from tests.backlog.queue_model import QueueModel

POOL = PoolName("chat")
HEARTBEAT_S = 600.0
"""Long enough that nothing expires by itself: the machine decides what does."""
MOST_TICKETS = 8
ENDLESS = 1e9
WORKER_IDS = [WorkerId("w1"), WorkerId("w2"), WorkerId("w3")]
REPLICAS = [ReplicaName("r0"), ReplicaName("r:1"), ReplicaName("r2")]
TENANTS = ["a", "b b", "ç:1"]

workers = st.sampled_from(WORKER_IDS)
ids = st.builds(lambda worker, number: TicketId(f"{worker}-{number}"), workers, st.integers(0, 5))
gpu_s = st.sampled_from([0.125, 0.5, 1.0, 4.0, 20.0]) | st.floats(0.001, 60.0)
seconds = st.sampled_from([0.0, 0.0625, 0.3125])
"""Sums of powers of two: exact in Redis too, which adds long doubles. A last bit would decide between replicas."""
tenants = st.sampled_from(TENANTS)
bands = st.sampled_from([0, 3, 7])
tenant_weights = st.sampled_from([0.5, 1.0, 3.0])
pending = st.builds(
    lambda ticket, waited_s, past_bound: Pending(
        ticket=ticket, waited_s=waited_s, bound_s=waited_s if past_bound else ENDLESS
    ),
    st.builds(
        Ticket,
        id=ids,
        owner=st.just(WorkerId("")),
        tenant=tenants,
        priority=bands,
        tenant_weight=tenant_weights,
        gpu_s=gpu_s,
        prefill_s=seconds,
        prefill_tokens=st.just(10),
        kv_tokens=st.sampled_from([0, 100, 900]),
        crowd_s=st.sampled_from([0.0, 0.01]),
        first=st.sampled_from([False, False, False, True]),
        avoid=st.lists(st.sampled_from(REPLICAS), max_size=2, unique=True).map(tuple),
        concurrent_gpu_s=st.sampled_from([None, None, None, 2.0]),
    ),
    st.sampled_from([0.0, 0.0, 1.0, 30.0]),
    st.sampled_from([False, False, False, True]),
)
batches = st.lists(pending, min_size=1, max_size=5)
offers = st.lists(
    st.builds(
        Offer,
        replica=st.sampled_from(REPLICAS),
        fixed_s=seconds,
        in_flight=st.integers(0, 2),
        ahead_s=seconds,
        kv_tokens=st.sampled_from([0, 500]),
        # Which of the counters seen so far the worker knows, counted from the latest; see `_aware`.
        known=st.builds(Claimed, requests=st.integers(0, 4)),
    ),
    max_size=3,
    unique_by=lambda offer: offer.replica,
)
claims = st.builds(
    Claim,
    offers=offers,
    budget_s=st.sampled_from([0.25, 2.0]),
    contested_s=st.just(0.1),
    kv_capacity_tokens=st.just(1000),
    max_in_flight=st.sampled_from([None, 1, 3]),
    most=st.sampled_from([1, 3, 32]),
)
charges = st.builds(
    Charges,
    number=st.integers(1, 6),
    tenants=st.dictionaries(st.tuples(tenants, bands), st.tuples(tenant_weights, st.floats(-30, 30)), max_size=2),
    replicas=st.dictionaries(
        st.sampled_from(REPLICAS),
        st.builds(Claimed, prefill_s=seconds, kv_tokens=st.integers(0, 100), requests=st.integers(0, 2)),
        max_size=2,
    ),
)
flying = st.dictionaries(tenants, st.sampled_from([0.0, 0.5, 3.0]), max_size=2)
some_ids = st.lists(ids, min_size=1, max_size=4, unique=True)


class QueueMachine(RuleBasedStateMachine):
    """`model` says what Redis must hold. One prefix per run keeps runs apart."""

    def __init__(self, url: str, prefix: str, order: Order, runner: asyncio.Runner) -> None:
        super().__init__()
        self.runner = runner
        self.redis = Redis.from_url(url, decode_responses=True)
        self.backlog: Backlog = connect(
            url, prefix=prefix, heartbeat_s=HEARTBEAT_S, timeout_s=20.0, orders={POOL: order}
        )
        self.root = f"{prefix}:{{{POOL}}}:"
        self.model = QueueModel(order)
        self.claimed = [self.model.claimed]
        """The counters after each step, which workers may know."""
        self.agrees = True
        # A turn of which Redis knows some scripts runs those twice.
        load_scripts(self.redis)

    # Events

    @rule(worker=workers, flying=flying, repeat=st.booleans())
    def report(self, worker: WorkerId, flying: dict[str, float], repeat: bool) -> None:
        self._turn(worker, Turn(report=samples.worker_report(worker), flying=flying), repeat)

    @rule(worker=workers, batch=batches, repeat=st.sampled_from([False, False, True]))
    def enqueue(self, worker: WorkerId, batch: list[Pending], repeat: bool) -> None:
        self._turn(worker, Turn(enqueue=_owned(worker, batch), most_tickets=MOST_TICKETS), repeat)

    @rule(worker=workers, claim=claims)
    def claim(self, worker: WorkerId, claim: Claim) -> None:
        self._turn(worker, Turn(claim=self._aware(claim)))

    @rule(worker=workers, started=some_ids, repeat=st.booleans())
    def start(self, worker: WorkerId, started: list[TicketId], repeat: bool) -> None:
        self._turn(worker, Turn(start=started), repeat)

    @rule(worker=workers, evicted=some_ids, repeat=st.booleans())
    def evict(self, worker: WorkerId, evicted: list[TicketId], repeat: bool) -> None:
        self._turn(worker, Turn(evict=evicted), repeat)

    @rule(worker=workers, charges=charges, repeat=st.booleans())
    def settle(self, worker: WorkerId, charges: Charges, repeat: bool) -> None:
        self._turn(worker, Turn(charges=charges), repeat)

    @rule(worker=workers, flying=flying, started=some_ids, evicted=some_ids, charges=charges, batch=batches,
          claim=claims, repeat=st.booleans(), scripts_forgotten=st.booleans())  # fmt: skip
    def everything_at_once(
        self, worker: WorkerId, flying: dict[str, float], started: list[TicketId], evicted: list[TicketId],
        charges: Charges, batch: list[Pending], claim: Claim, repeat: bool, scripts_forgotten: bool,
    ) -> None:  # fmt: skip
        if scripts_forgotten:
            self.redis.script_flush()
        turn = Turn(
            report=samples.worker_report(worker),
            flying=flying,
            start=started,
            evict=evicted,
            charges=charges,
            enqueue=_owned(worker, batch),
            most_tickets=MOST_TICKETS,
            claim=self._aware(claim),
        )
        self._turn(worker, turn, repeat)

    @rule(some=st.none() | some_ids)
    def leases_run_out(self, some: list[TicketId] | None) -> None:
        """None: all of them."""
        for ticket in self.model.leased.keys() & (some or self.model.leased.keys()):
            self.redis.zadd(self.root + "leases", {ticket: 0}, xx=True)
            self.model.returning.add(ticket)

    @rule(some=some_ids)
    def wait_bounds_pass(self, some: list[TicketId]) -> None:
        for ticket in some:
            if ticket in self.model.known and self.model.known[ticket].bounded:
                self.redis.zadd(self.root + "bounds", {ticket: 0}, xx=True)
                self.model.past_bound.add(ticket)

    @rule(worker=workers)
    def a_worker_falls_silent(self, worker: WorkerId) -> None:
        if worker in self.model.alive:
            self.redis.zadd(self.root + "workers", {worker: 0}, xx=True)
            self.model.alive[worker] = False

    @rule(worker=workers, stays=st.booleans())
    def leave(self, worker: WorkerId, stays: bool) -> None:
        leave = self.backlog.withdraw if stays else self.backlog.leave
        self.runner.run(leave(POOL, worker))
        self.model.leave(worker, stays=stays)

    @rule(names=st.sets(st.sampled_from(REPLICAS)), draining=st.sets(st.sampled_from(REPLICAS)))
    def list_replicas(self, names: set[ReplicaName], draining: set[ReplicaName]) -> None:
        states = {name: ReplicaState.DRAINING if name in draining else ReplicaState.READY for name in sorted(names)}
        replicas = [samples.replica(name, state) for name, state in states.items()]
        self.runner.run(self.backlog.publish_replicas(POOL, replicas))
        self.model.list_replicas(names, names & draining)

    # What must hold

    @invariant()
    def redis_holds_what_the_model_says(self) -> None:
        self._agree()

    def _agree(self) -> None:
        self.agrees = False
        held = self._dump()
        model = self.model
        bodies = held.pop("tickets", {})
        assert bodies.keys() == model.known.keys()
        for ticket, marks in bodies.items():
            one = model.known[ticket]
            arrived, key, band, overdue, body = marks.split(" ", 4)
            assert (float(arrived), int(band), overdue) == (
                one.arrived_at_s, one.ticket.priority, str(int(one.overdue)),
            )  # fmt: skip
            assert one.overdue or float(key) == key_s(model.order, one.ticket, one.arrived_at_s)
            assert json.loads(body)["owner"] == one.ticket.owner
        self._counters_agree(held.pop("claimed", {}), held.pop("counted", {}))
        assert {ticket: json.loads(raw)["band"] for ticket, raw in held.pop("leased", {}).items()} == model.leased
        assert set(held.pop("leases", {})) == model.leased.keys()
        assert set(held.pop("bounds", {})) == {id_ for id_, one in model.known.items() if one.bounded}
        assert set(held.pop("workers", {})) == model.alive.keys()
        assert held.pop("draining", set()) == model.draining
        self._work_agrees(held.pop("sums", {}))
        self._virtual_agrees(held.pop("virtual", {}))
        expected = {f"line:{name}": line for name, line in self._lines().items()}
        expected |= {f"band:{name}": tenants for name, tenants in self._bands().items()}
        expected |= {f"owned:{worker}": model.owned(worker) for worker in WORKER_IDS}
        expected |= {f"mail:{worker}": mail for worker, mail in model.mail.items()}
        expected |= {f"flying:{worker}": flying for worker, flying in model.flying.items()}
        expected |= {f"batch:{worker}": number for worker, number in model.batches.items()}
        for name in [name for name in held if name.startswith(("worker:", "replicas"))]:
            del held[name]
        assert _filled(held) == _filled(expected)
        self.agrees = True

    def _counters_agree(self, claimed: Mapping[str, str], counted: Mapping[str, str]) -> None:
        """They are sums of long doubles in Redis: what a worker knows is what Redis says."""
        assert counted.keys() == {name[2:] for name in claimed}
        now = {
            ReplicaName(name): Claimed(
                prefill_s=float(claimed.get(f"p:{name}", 0)),
                kv_tokens=int(claimed.get(f"k:{name}", 0)),
                requests=int(requests),
            )
            for name, requests in counted.items()
        }
        assert now.keys() == self.model.claimed.keys()
        for name, value in now.items():
            expected = self.model.claimed[name]
            assert replace(value, prefill_s=0.0) == replace(expected, prefill_s=0.0)
            assert value.prefill_s == pytest.approx(expected.prefill_s)
        self.model.claimed = now
        self.claimed.append(now)

    def _work_agrees(self, sums: dict[str, str]) -> None:
        waiting = list(self.model.queue)
        assert int(sums.pop("tickets", 0)) == len(waiting)
        assert ("since" in sums) == bool(waiting)
        sums.pop("since", None)
        work: dict[str, float] = {}
        for ticket in waiting:
            name = f"{ticket.priority}:{ticket.tenant}"
            work[name] = work.get(name, 0.0) + ticket.gpu_s
        assert {name: float(value) for name, value in sums.items()} == pytest.approx(work)

    def _virtual_agrees(self, virtual: dict[str, str]) -> None:
        """Refunds of one tenant are added in any order: the last bits are those of Redis from here on."""
        virtual.pop("woken", None)
        found = {name: float(value) for name, value in virtual.items()}
        expected: dict[str, float] = {}
        for number, band in enumerate(self.model.queue.bands):
            expected |= {f"t:{number}:{tenant}": tag for tenant, tag in band.finish_v.items()}
            if band.now_v or f"now:{number}" in found:
                expected[f"now:{number}"] = band.now_v
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)
        for number, band in enumerate(self.model.queue.bands):
            band.now_v = found.get(f"now:{number}", 0.0)
            band.finish_v = {tenant: found[f"t:{number}:{tenant}"] for tenant in band.finish_v}

    def _lines(self) -> dict[str, dict[str, float]]:
        queue = self.model.queue
        lines = {
            f"{number}:{tenant}": line
            for number, band in enumerate(queue.bands)
            for tenant, line in band.lines.items()
        }  # fmt: skip
        lines |= {f"overdue:{tenant}": line for tenant, line in queue._overdue.items()}
        return {name: {id_: key for key, id_ in line} for name, line in lines.items()}

    def _bands(self) -> dict[str, dict[str, float]]:
        queue = self.model.queue
        ranks = {
            str(number): {tenant: self.model.rank(number, tenant) for tenant in band.lines}
            for number, band in enumerate(queue.bands)
        }
        fair = self.model.order is Order.FAIR
        return ranks | {"overdue": {tenant: 0.0 if fair else line[0][0] for tenant, line in queue._overdue.items()}}

    def teardown(self) -> None:
        """Everybody comes back and everything is leased: in the model's order, and nothing is left."""
        try:
            if self.agrees:
                self._serve_all()
        finally:
            if names := self.redis.keys(self.root + "*"):
                self.redis.delete(*names)  # type: ignore[misc]
            self.runner.run(self.backlog.close())
            self.redis.close()

    def _serve_all(self) -> None:
        for worker in WORKER_IDS:
            self._turn(worker, Turn(report=samples.worker_report(worker)))
        room = [Offer(
            replica=ReplicaName("r9"), fixed_s=0.0, in_flight=0, ahead_s=0.0, kv_tokens=0,
            known=Claimed(),
        )]  # fmt: skip
        endless = Claim(offers=room, budget_s=ENDLESS, contested_s=ENDLESS, kv_capacity_tokens=10**9, most=100)
        while self.model.known:
            reply = self._turn(WORKER_IDS[0], Turn(start=list(self.model.leased), claim=endless))
            assert reply.claims is not None
            assert reply.claims.leases or not self.model.known
        left = {name.split(":")[0] for name in self._dump()}
        assert left <= {"workers", "worker", "virtual", "claimed", "counted", "mail", "batch", "draining", "replicas"}

    # Helpers

    def _turn(self, worker: WorkerId, turn: Turn, repeat: bool = False) -> Reply:
        self.agrees = False
        for _ in range(1 + repeat):
            seconds, micros = self.redis.time()  # type: ignore[misc]
            reply = self.runner.run(self.backlog.turn(POOL, worker, turn))
            self._apply(worker, turn, reply, self._clock_of(turn.enqueue, seconds * 1_000_000 + micros))
            self._agree()
        return reply

    def _apply(self, worker: WorkerId, turn: Turn, reply: Reply, now_us: int) -> None:
        """The model takes the turn and must have given the same reply."""
        model = self.model
        if turn.report is not None:
            assert reply.owned == model.report(worker, turn.flying)
        model.start(turn.start)
        model.evict(turn.evict)
        if turn.charges is not None:
            model.settle(worker, turn.charges)
        if turn.enqueue:
            assert list(reply.turned_away) == model.enqueue(worker, turn.enqueue, turn.most_tickets, now_us)
        if turn.claim is not None:
            assert reply.claims is not None
            leases = [(lease.ticket, lease.replica) for lease in reply.claims.leases]
            assert (reply.claims.why, set(reply.claims.held), leases) == model.claim(worker, turn.claim)

    def _clock_of(self, enqueued: Iterable[Pending], about_us: int) -> int:
        """Redis's clock in the script, from a ticket that found a place; about the same when none did."""
        last = {one.ticket.id: one for one in enqueued}
        for ticket, one in last.items():
            marks = self.redis.hget(self.root + "tickets", ticket)
            if marks:
                arrived_us = round((float(marks.split(" ", 1)[0]) + one.waited_s) * 1e6)  # type: ignore[union-attr]
                if arrived_us >= about_us:
                    return arrived_us
        return about_us

    def _aware(self, claim: Claim) -> Claim:
        """With the counters of a while ago in its offers."""
        known = []
        for offer in claim.offers:
            seen = self.claimed[-min(offer.known.requests + 1, len(self.claimed))]
            known.append(replace(offer, known=seen.get(offer.replica, Claimed())))
        return replace(claim, offers=known)

    def _dump(self) -> dict[str, Any]:
        """Every key of the pool and its value. Each must have an end."""
        names = [key.removeprefix(self.root) for key in self.redis.keys(self.root + "*")]  # type: ignore[union-attr]
        with self.redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.pttl(self.root + name)
                _read(pipe, self.root + name, name.split(":")[0])
            answers = pipe.execute()
        assert all(ttl_ms > 0 for ttl_ms in answers[::2]), dict(zip(names, answers[::2], strict=True))
        return {name: _plain(name, value) for name, value in zip(names, answers[1::2], strict=True)}


def load_scripts(redis: Redis) -> None:
    for part in vars(turn_module).values():
        if isinstance(part, Script):
            redis.script_load(part.text)


def _owned(worker: WorkerId, batch: list[Pending]) -> list[Pending]:
    """The batch with ids of this worker's own."""
    mine = [replace(one.ticket, id=TicketId(worker + one.ticket.id[2:]), owner=worker) for one in batch]
    return [replace(one, ticket=ticket) for one, ticket in zip(batch, mine, strict=True)]


def _filled(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}


def _read(pipe: Any, key: str, kind: str) -> None:
    if kind in ("workers", "line", "band", "bounds", "leases"):
        pipe.zrange(key, 0, -1, withscores=True)
    elif kind in ("owned", "draining"):
        pipe.smembers(key)
    elif kind == "mail":
        pipe.lrange(key, 0, -1)
    elif kind in ("worker", "replicas", "batch"):
        pipe.get(key)
    else:
        pipe.hgetall(key)


def _plain(name: str, value: Any) -> Any:
    kind = name.split(":")[0]
    if kind == "mail":
        mail = [("L", json.loads(one[1:])["ticket"]) if one[0] == "L" else (one[0], one[1:]) for one in value]
        return [one for one in mail if one[0] != "W"]
    if kind == "flying":
        return {tenant: float(gpu_s) for tenant, gpu_s in value.items()}
    if kind == "batch":
        return int(value)
    return dict(value) if isinstance(value, list) else value


def run_machine(url: str, prefix: str, order: Order, *, examples: int) -> None:
    runs = count()
    with asyncio.Runner() as runner:
        run_state_machine_as_test(
            lambda: QueueMachine(url, f"{prefix}-{next(runs)}", order, runner),
            settings=settings(
                max_examples=examples,
                stateful_step_count=25,
                deadline=None,
                phases=[Phase.generate, Phase.shrink],
                suppress_health_check=[HealthCheck.too_slow],
            ),
        )


@pytest.mark.parametrize("order", list(Order))
def test_the_queue_in_redis_agrees_with_the_pure_one_under_any_order_of_events(
    order: Order, redis_url: str, redis_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backlog.turn.LEASE_S", HEARTBEAT_S)
    run_machine(redis_url, redis_prefix, order, examples=40)
