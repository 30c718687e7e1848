"""What one worker tells the shared queue of a pool, and hears, in one round trip.

A turn is absolute or numbered, so it may be repeated when nobody knows whether it arrived: a report replaces the last
one, a ticket that is enqueued again is replaced, a batch of charges is applied once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from backlog import codec, keys
from backlog.connection import Call
from backlog.order import AHEAD_S, LEAD_S, PATIENCE, Order
from backlog.records import (
    BANDS,
    Claimed,
    Lease,
    PoolName,
    PoolView,
    QueueLine,
    QueueView,
    ReplicaName,
    TicketId,
    WorkerReport,
)
from backlog.scripts import Script, script
from backlog.ticket import Charges, Offer, Pending

MAX_WORKERS = 1024
"""Most reports in one view, freshest first: it bounds how long one script can hold Redis."""
MAX_LINES = 256
"""Most lines of the queue in one view, highest bands first."""
LEASE_S = 1.0
"""A lease that its owner has not started for so long goes to the ticket's place again."""
MOST_LEASES = 32
"""Most leases in one turn."""

_PUBLISH = script("clock", "names", "queue", "reap", "publish")
_ENQUEUE = script("clock", "names", "queue", "enqueue")
_EVICT = script("clock", "names", "queue", "evict")
_START = script("clock", "names", "queue", "start")
_SETTLE = script("clock", "names", "queue", "settle")
_CLAIM = script("clock", "names", "queue", "claim", repeatable=False)
_VIEW = script("clock", "names", "view")
_LEAVE = script("clock", "names", "queue", "leave")
_DRAIN = script("clock", "names", "drain")

_encoder = msgspec.json.Encoder()
_lease_decoder = msgspec.json.Decoder(Lease)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What the claiming worker knows of the replicas, and the pool's thresholds."""

    offers: Sequence[Offer]
    budget_s: float
    contested_s: float
    """The budget while tenants compete."""
    kv_capacity_tokens: int
    max_in_flight: int | None = None
    """Requests that one replica may run at once."""
    most: int = MOST_LEASES


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a claim gave. `why` it stopped: `empty`, `room`, `held` or `most`."""

    why: str
    held: tuple[str, ...]
    """Tenants whose next ticket waits for a limit of their own."""
    leases: tuple[Lease, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Parts that are empty are not sent. They run in the order in which they stand here."""

    report: WorkerReport | None = None
    flying: Mapping[str, float] = field(default_factory=dict)
    """GPU-seconds in flight of tenants with a limit on it. Sent with the report."""
    start: Sequence[TicketId] = ()
    evict: Sequence[TicketId] = ()
    charges: Charges | None = None
    enqueue: Sequence[Pending] = ()
    most_tickets: int = 1000
    claim: Claim | None = None
    look: bool = False
    """Read the view at the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """`None` for parts that the turn did not have."""

    owned: int | None = None
    """Tickets of this worker that Redis knew when the report arrived."""
    turned_away: tuple[TicketId, ...] = ()
    """Own tickets for which the queue has no place."""
    claims: Claims | None = None
    view: PoolView | None = None


class PoolScripts:
    """Builds the calls for one pool and reads their answers."""

    def __init__(self, name: PoolName, *, prefix: str, heartbeat_s: float, order: Order = Order.FAIR) -> None:
        self.name = name
        self._keys = keys.pool_keys(prefix, name)
        self._report_stem = keys.worker_key_stem(prefix, name)
        self._replicas_key = keys.replicas_key(prefix, name)
        self._decision_key = keys.decision_key(prefix, name)
        self._leased_key = keys.leased_key(prefix, name)
        self._order = order
        self._common: list[str | int | float | bytes] = [
            order.value, round(heartbeat_s * 1000), round(keys.QUEUE_TTL_S * 1000), BANDS, AHEAD_S, LEAD_S,
        ]  # fmt: skip

    def calls(self, worker: str, turn: Turn) -> list[Call]:
        """The parts of a turn that are there, in order."""
        calls = []
        if turn.report is not None:
            flying = [part for pair in turn.flying.items() for part in pair]
            calls.append(self._call(_PUBLISH, worker, codec.encode_report(turn.report), *flying))
        if turn.start:
            calls.append(self._call(_START, *turn.start))
        if turn.evict:
            calls.append(self._call(_EVICT, *turn.evict))
        if turn.charges is not None:
            calls.append(self._call(_SETTLE, *_charges(worker, turn.charges)))
        if turn.enqueue:
            calls.append(self._call(_ENQUEUE, worker, turn.most_tickets, *self._tickets(turn.enqueue)))
        if turn.claim is not None:
            calls.append(self._call(_CLAIM, worker, *_claim(turn.claim)))
        if turn.look:
            calls.append(self.view())
        return calls

    def reply(self, turn: Turn, answers: Sequence[Any]) -> Reply:
        """From the answers to `calls`. Raises `codec.CorruptRecord`."""
        left = iter(answers)
        owned = next(left) if turn.report is not None else None
        for part in (turn.start, turn.evict, turn.charges):
            if part:
                next(left)
        turned_away = tuple(TicketId(_text(name)) for name in next(left)) if turn.enqueue else ()
        claims = self._claims(next(left)) if turn.claim is not None else None
        view = self.read(next(left)) if turn.look else None
        return Reply(owned=owned, turned_away=turned_away, claims=claims, view=view)

    def view(self) -> Call:
        return self._call(_VIEW, MAX_WORKERS, MAX_LINES)

    def leave(self, worker: str, *, stays: bool) -> Call:
        return self._call(_LEAVE, worker, int(stays))

    def drain(self, payload: bytes, ttl_ms: int, draining: Sequence[str], names: Sequence[str]) -> Call:
        return self._call(_DRAIN, payload, ttl_ms, len(draining), *draining, *names)

    def read(self, answer: Any) -> PoolView:
        """The view from what view.lua returns. One corrupt record spoils it: what is left would look like less work.

        Raises `codec.CorruptRecord`.
        """
        now_us, replicas, decision, reports, now_v, since_us, lines, leases, claimed, counted = answer
        return PoolView(
            pool=self.name,
            read_at_s=now_us / 1e6,
            reports=tuple(codec.seen_reports(self._report_stem, reports)),
            replicas=codec.decode_replicas(self._replicas_key, replicas) if replicas is not None else None,
            decision=codec.decode_decision(self._decision_key, decision) if decision is not None else None,
            queue=QueueView(
                now_v=tuple(float(one) for one in now_v),
                waiting_age_s=None if since_us is None else max(0.0, (now_us - int(since_us)) / 1e6),
                lines=tuple(_lines(lines)),
                leases=tuple(self._lease(raw) for raw in leases),
                claimed=_claimed(claimed, counted),
            ),
        )

    def lease_from_mail(self, message: bytes) -> Lease:
        """The lease in a message that begins with `L`. Raises `codec.CorruptRecord`."""
        return self._lease(message[1:])

    def _tickets(self, pending: Sequence[Pending]) -> list[str | int | float | bytes]:
        args: list[str | int | float | bytes] = []
        for one in pending:
            ticket = one.ticket
            patience_s = 0.0 if self._order is Order.FCFS else PATIENCE * ticket.gpu_s
            args += (ticket.id, one.waited_s, ticket.priority, patience_s, int(ticket.first), one.bound_s)
            args.append(_encoder.encode(ticket))
        return args

    def _claims(self, answer: Any) -> Claims:
        why, held, leases = answer
        return Claims(
            why=_text(why),
            held=tuple(_text(tenant) for tenant in held),
            leases=tuple(self._lease(raw) for raw in leases),
        )

    def _lease(self, raw: bytes) -> Lease:
        try:
            return _lease_decoder.decode(raw)
        except msgspec.DecodeError as error:
            raise codec.CorruptRecord(self._leased_key, str(error)) from error

    def _call(self, run: Script, *args: str | int | float | bytes) -> Call:
        return Call(run, self._keys, [*self._common, *args])


def _charges(worker: str, charges: Charges) -> list[str | int | float | bytes]:
    args: list[str | int | float | bytes] = [worker, charges.number, len(charges.tenants)]
    for (tenant, priority), (tenant_weight, gpu_s) in charges.tenants.items():
        args += (tenant, priority, tenant_weight, gpu_s)
    for replica, sent in charges.replicas.items():
        args += (replica, sent.prefill_s, sent.kv_tokens, sent.requests)
    return args


def _claim(claim: Claim) -> list[str | int | float | bytes]:
    args: list[str | int | float | bytes] = [
        claim.most, round(LEASE_S * 1e6), claim.budget_s, claim.contested_s, claim.kv_capacity_tokens,
        "" if claim.max_in_flight is None else claim.max_in_flight,
    ]  # fmt: skip
    for offer in claim.offers:
        args += (offer.replica, offer.fixed_s, offer.in_flight, offer.ahead_s, offer.kv_tokens)
        args += (offer.known.prefill_s, offer.known.kv_tokens, offer.known.requests)
    return args


def _lines(flat: Sequence[Any]) -> list[QueueLine]:
    return [
        QueueLine(
            priority=band, tenant=_text(tenant), tickets=tickets, gpu_s=max(0.0, float(gpu_s)), finish_v=float(tag)
        )
        for band, tenant, tickets, gpu_s, tag in zip(*(flat[part::5] for part in range(5)), strict=True)
    ]


def _claimed(flat: Sequence[Any], counted: Sequence[Any]) -> dict[ReplicaName, Claimed]:
    requests = {_text(name): int(count) for name, count in zip(counted[::2], counted[1::2], strict=True)}
    prefill_s: dict[str, float] = {}
    kv_tokens: dict[str, int] = {}
    for field_name, value in zip(flat[::2], flat[1::2], strict=True):
        kind, _, replica = _text(field_name).partition(":")
        if kind == "p":
            prefill_s[replica] = float(value)
        else:
            kv_tokens[replica] = int(value)
    return {
        ReplicaName(name): Claimed(
            prefill_s=prefill_s.get(name, 0.0), kv_tokens=kv_tokens.get(name, 0), requests=requests.get(name, 0)
        )
        for name in prefill_s.keys() | kv_tokens.keys() | requests.keys()
    }


def _text(raw: bytes | str) -> str:
    return raw.decode(errors="replace") if isinstance(raw, bytes) else raw
