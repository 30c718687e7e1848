"""How many tickets one Redis takes through the shared queue: `python -m benchmarks.tickets [--seconds 3]`.

A client enqueues, claims and starts tickets in turns of a fixed size, while others wait. Redis has a core of its own.
The client takes turns one after the other, so Redis is idle for part of the time: what it sustains is by its CPU time.
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from backlog.embedded import EmbeddedRedis
from backlog.records import Claimed, PoolName, ReplicaName, TicketId, WorkerId, WorkerReport
from backlog.store import Backlog, connect
from backlog.ticket import Offer, Pending, Ticket
from backlog.turn import Claim, Turn

POOL, WORKER = PoolName("bench"), WorkerId("worker")
WAITING = 10_000
SIZES = (1, 8, 32)
TENANTS = (1, 100)
REPLICAS = 16
ENDLESS_S = 1e9
_numbers = count()


def tickets(number: int, tenants: int) -> list[Pending]:
    """So many new tickets, of the tenants in turn."""
    made = []
    for _ in range(number):
        index = next(_numbers)
        ticket = Ticket(
            id=TicketId(f"t{index}"),
            owner=WORKER,
            tenant=f"tenant{index % tenants}",
            gpu_s=0.1 + index % 7 / 10,
            prefill_s=0.05,
            prefill_tokens=500,
            kv_tokens=900,
            crowd_s=0.001,
        )
        made.append(Pending(ticket=ticket, waited_s=0.0, bound_s=3600.0))
    return made


def claim(most: int) -> Claim:
    """Offers that always have room, so that each turn gives as many leases as it brings tickets."""
    offers = [
        Offer(
            replica=ReplicaName(f"r{index}"),
            fixed_s=index / 1000,
            in_flight=0,
            ahead_s=0.0,
            kv_tokens=0,
            known=Claimed(prefill_s=ENDLESS_S, kv_tokens=int(ENDLESS_S), requests=int(ENDLESS_S)),
        )
        for index in range(REPLICAS)
    ]
    return Claim(offers=offers, budget_s=ENDLESS_S, contested_s=ENDLESS_S, kv_capacity_tokens=int(1e12), most=most)


def cpu_s(pid: int) -> float:
    """User and system time of a process so far (proc(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(backlog: Backlog, pid: int, size: int, tenants: int, seconds: float) -> tuple[float, float]:
    """Tickets through enqueue, claim and start: per CPU second of the Redis with this `pid`, and per second."""
    report = WorkerReport(worker=WORKER, started_at_s=0.0)
    await backlog.leave(POOL, WORKER)
    for _ in range(WAITING // 500):
        turn = Turn(report=report, enqueue=tickets(500, tenants), most_tickets=10 * WAITING)
        await backlog.turn(POOL, WORKER, turn)
    started: list[TicketId] = []
    served, began_s, began_cpu_s = 0, time.perf_counter(), cpu_s(pid)
    while time.perf_counter() - began_s < seconds:
        reply = await backlog.turn(
            POOL,
            WORKER,
            Turn(
                report=report,
                start=started,
                enqueue=tickets(size, tenants),
                most_tickets=10 * WAITING,
                claim=claim(size),
            ),
        )
        assert reply.claims is not None
        assert len(reply.claims.leases) == size, reply.claims.why
        started = [lease.ticket for lease in reply.claims.leases]
        served += size
    return served / (cpu_s(pid) - began_cpu_s), served / (time.perf_counter() - began_s)


async def run(url: str, pid: int, seconds: float) -> None:
    backlog = connect(url, timeout_s=10.0, heartbeat_s=60.0)
    print(f"{WAITING:,} waiting, {REPLICAS} offers; tickets through enqueue, claim and start")
    print("per CPU second of Redis (per second with one client)")
    print("tenants", *(f"{f'{size} a turn':>15}" for size in SIZES))
    for tenants in TENANTS:
        rates = [await measure(backlog, pid, size, tenants, seconds) for size in SIZES]
        print(f"{tenants:>7}", *(f"{f'{by_cpu:,.0f} ({by_wall:,.0f})':>15}" for by_cpu, by_wall in rates))
    await backlog.leave(POOL, WORKER)
    await backlog.close()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tickets", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    args = parser.parse_args(argv)
    cores = sorted(os.sched_getaffinity(0))
    with EmbeddedRedis.start() as redis:
        if len(cores) > 1:
            os.sched_setaffinity(redis.pid, {cores[-1]})
            os.sched_setaffinity(0, {cores[0]})
        asyncio.run(run(redis.url, redis.pid, args.seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
