"""The pure queue alone: tickets per second with 10,000 waiting. Real time on this machine, so only to be reported."""

import random
import time
from itertools import count

from backlog.order import Order, Queue
from backlog.records import TicketId, WorkerId
from backlog.ticket import Ticket
from benchmarks.order.result import Cell, Experiment, Result

WAITING = 10_000
TENANTS = (1, 10, 100)


def speed(at: Experiment) -> Result:
    """`add`, `head`, `take` of one ticket, at a constant number of waiting ones."""
    rounds = max(100, round(20_000 * at.scale))
    return Result(
        name="speed",
        title=f"tickets/s of add + head + take with {WAITING:,} waiting",
        rows=tuple(_row(order, tenants, rounds) for order in (Order.FAIR, Order.FCFS) for tenants in TENANTS),
        notes=("this machine, one core, nothing else held still",),
    )


def _row(order: Order, tenants: int, rounds: int) -> dict[str, Cell]:
    rng, numbers = random.Random(0), count()
    tickets = [_ticket(next(numbers), tenants, rng) for _ in range(WAITING + rounds)]
    queue = Queue(order)
    for index in range(WAITING):
        queue.add(tickets[index], index / 100)
    began_s = time.perf_counter()
    for index in range(WAITING, WAITING + rounds):
        queue.add(tickets[index], index / 100)
        head = queue.head()
        assert head is not None
        queue.take(head.id)
    return {"order": order.value, "tenants": tenants, "tickets/s": round(rounds / (time.perf_counter() - began_s))}


def _ticket(number: int, tenants: int, rng: random.Random) -> Ticket:
    gpu_s = rng.expovariate(2.0)
    return Ticket(
        id=TicketId(f"t{number}"),
        owner=WorkerId("w"),
        tenant=f"tenant-{rng.randrange(tenants)}",
        gpu_s=gpu_s,
        prefill_s=gpu_s / 2,
        prefill_tokens=1000,
        kv_tokens=1500,
    )
