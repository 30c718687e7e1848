"""The waiting room against a plain list, over any history."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from backlog.order import Order
from backlog.records import TicketId
from gateway.room import Seat, WaitingRoom
from tests.gateway.builders import ticket, weight


class RoomAgainstModel(RuleBasedStateMachine):
    """Requests enter, leave (some of them twice), and pass their deadlines."""

    seats = Bundle("seats")
    left = Bundle("left")

    @initialize(order=st.sampled_from(Order))
    def begin(self, order: Order) -> None:
        self.room: WaitingRoom[int] = WaitingRoom(order)
        self.model: list[Seat[int]] = []
        self.late: set[int] = set()
        self.guests = 0

    @rule(
        target=seats,
        prefill_s=st.floats(0.0, 5.0),
        decode_s=st.floats(0.0, 50.0),
        input_tokens=st.integers(1, 10_000),
        arrived_at_s=st.floats(0.0, 100.0),
        patience_s=st.floats(0.0, 60.0),
        tenant=st.sampled_from("ab"),
    )
    def enter(
        self, prefill_s: float, decode_s: float, input_tokens: int, arrived_at_s: float, patience_s: float, tenant: str
    ) -> Seat[int]:
        self.guests += 1
        weighed = weight(prefill_s, decode_s, input_tokens=input_tokens)
        waiting = ticket(f"me:{self.guests}", tenant=tenant, gpu_s=weighed.gpu_s)
        seat = Seat(self.guests, waiting, weighed, arrived_at_s, arrived_at_s + patience_s)
        self.room.enter(seat)
        self.model.append(seat)
        assert seat.taken
        assert self.room.seat_of(waiting.id) is seat
        return seat

    @rule(target=left, seat=consumes(seats))
    def leave(self, seat: Seat[int]) -> Seat[int]:
        self.room.leave(seat)
        self.model.remove(seat)
        assert not seat.taken
        assert self.room.seat_of(seat.ticket.id) is None
        return seat

    @rule(seat=left)
    def leave_again(self, seat: Seat[int]) -> None:
        before = (self.room.count, self.room.gpu_s, self.room.prefill_s, self.room.kv_tokens)
        self.room.leave(seat)
        assert (self.room.count, self.room.gpu_s, self.room.prefill_s, self.room.kv_tokens) == before

    @rule(now_s=st.floats(0.0, 200.0))
    def expired(self, now_s: float) -> None:
        due = {seat.guest for seat in self.model if seat.deadline_at_s <= now_s} - self.late
        found = self.room.expired(now_s)
        assert sorted(seat.guest for seat in found) == sorted(due)
        assert [seat.deadline_at_s for seat in found] == sorted(seat.deadline_at_s for seat in found)
        assert all(seat.taken for seat in found)
        self.late |= due

    @invariant()
    def the_queue_has_the_same_tickets(self) -> None:
        assert {waiting.id for waiting in self.room.queue} == self.room.tickets
        assert self.room.seats == self.model
        assert self.room.tickets == {seat.ticket.id for seat in self.model}

    @invariant()
    def the_sums_are_right(self) -> None:
        assert self.room.count == len(self.model)
        assert self.room.kv_tokens == sum(seat.weight.kv_tokens for seat in self.model)
        assert self.room.gpu_s == pytest.approx(sum(seat.weight.gpu_s for seat in self.model), abs=1e-9)
        assert self.room.prefill_s == pytest.approx(sum(seat.weight.prefill_s for seat in self.model), abs=1e-9)
        assert self.room.oldest_at_s() == min((seat.arrived_at_s for seat in self.model), default=None)

    @invariant()
    def an_empty_room_holds_exactly_nothing(self) -> None:
        if not self.model:
            assert (self.room.gpu_s, self.room.prefill_s, self.room.kv_tokens) == (0.0, 0.0, 0)


TestRoomAgainstModel = RoomAgainstModel.TestCase
TestRoomAgainstModel.settings = settings(max_examples=60, stateful_step_count=40)


@pytest.mark.parametrize(("order", "served"), [(Order.FCFS, "abc"), (Order.SHORTEST, "bca"), (Order.FAIR, "bac")])
def test_the_order_of_the_pool_holds(order: Order, served: str) -> None:
    room: WaitingRoom[str] = WaitingRoom(order)
    waiting = [("a", "blue", 9.0), ("b", "blue", 1.0), ("c", "red", 2.0)]
    for name, payer, gpu_s in waiting:
        room.enter(Seat(name, ticket(name, tenant=payer, gpu_s=gpu_s), weight(), 0.0, 30.0))
    if order is Order.FAIR:
        # Blue has been given nothing and red much: red comes last, and blue's own shortest first.
        room.queue.charge("red", 1.0, 100.0)
    taken = ""
    while (head := room.queue.head()) is not None:
        seat = room.seat_of(TicketId(head.id))
        assert seat is not None
        taken += seat.guest
        room.queue.take(head.id)
        room.leave(seat)
    assert (taken, room.count) == (served, 0)


def test_a_request_that_left_does_not_expire() -> None:
    room: WaitingRoom[str] = WaitingRoom()
    gone, late = (Seat(name, ticket(name), weight(), 0.0, 5.0) for name in "ab")
    room.enter(gone)
    room.enter(late)
    room.leave(gone)
    assert room.expired(5.0) == [late]
    assert room.expired(9.0) == []
