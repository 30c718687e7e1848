"""The waiting room against a plain list, over any history; and the wait it announces."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from gateway.room import Seat, WaitingRoom, wait_estimate_s
from tests.gateway.builders import weight


class RoomAgainstModel(RuleBasedStateMachine):
    """Requests enter at the end or the head, and leave from anywhere, some of them twice."""

    seats = Bundle("seats")
    left = Bundle("left")

    def __init__(self) -> None:
        super().__init__()
        self.room: WaitingRoom[int] = WaitingRoom(5)
        self.model: list[Seat[int]] = []
        self.guests = 0

    @rule(
        target=seats,
        prefill_s=st.floats(0.0, 5.0),
        decode_s=st.floats(0.0, 50.0),
        input_tokens=st.integers(1, 10_000),
        arrived_at_s=st.floats(0.0, 100.0),
        patience_s=st.floats(0.0, 60.0),
        first=st.booleans(),
    )
    def enter(
        self,
        prefill_s: float,
        decode_s: float,
        input_tokens: int,
        arrived_at_s: float,
        patience_s: float,
        first: bool,
    ) -> Seat[int]:
        self.guests += 1
        seat = self.room.enter(
            self.guests,
            weight(prefill_s, decode_s, input_tokens=input_tokens),
            arrived_at_s=arrived_at_s,
            deadline_at_s=arrived_at_s + patience_s,
            first=first,
        )
        self.model.insert(0 if first else len(self.model), seat)
        assert seat.taken
        return seat

    @rule(target=left, seat=consumes(seats))
    def leave(self, seat: Seat[int]) -> Seat[int]:
        self.room.leave(seat)
        self.model = [other for other in self.model if other is not seat]
        assert not seat.taken
        return seat

    @rule(seat=left)
    def leave_again(self, seat: Seat[int]) -> None:
        before = (self.room.count, self.room.gpu_s, self.room.prefill_s, self.room.kv_tokens)
        self.room.leave(seat)
        assert (self.room.count, self.room.gpu_s, self.room.prefill_s, self.room.kv_tokens) == before

    @rule(now_s=st.floats(0.0, 200.0))
    def expired(self, now_s: float) -> None:
        late = [seat for seat in self.model if seat.deadline_at_s <= now_s]
        assert [seat.guest for seat in self.room.expired(now_s)] == [seat.guest for seat in late]
        assert all(seat.taken for seat in late)

    @invariant()
    def the_head_is_the_first_that_came(self) -> None:
        assert self.room.head() is (self.model[0] if self.model else None)

    @invariant()
    def the_sums_are_right(self) -> None:
        assert self.room.count == len(self.model)
        assert self.room.full is (len(self.model) >= 5)
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


@pytest.mark.parametrize("comes_back", [False, True], ids=["in turn", "one comes back to the head"])
def test_first_come_first_served(comes_back: bool) -> None:
    room: WaitingRoom[str] = WaitingRoom(10)
    for guest in ("a", "b", "c"):
        room.enter(guest, weight(), arrived_at_s=0.0, deadline_at_s=30.0)
    if comes_back:
        room.enter("again", weight(), arrived_at_s=0.0, deadline_at_s=30.0, first=True)
    served = []
    while (seat := room.head()) is not None:
        served.append(seat.guest)
        room.leave(seat)
    assert served == (["again"] if comes_back else []) + ["a", "b", "c"]


@pytest.mark.parametrize(
    ("ahead_gpu_s", "gpus", "ready", "oldest_wait_s", "expected_s"),
    [
        pytest.param(0.0, 1, 2, None, 0.0, id="nothing ahead"),
        pytest.param(12.0, 1, 3, None, 4.0, id="the work over the replicas"),
        pytest.param(12.0, 2, 3, None, 2.0, id="the work over their GPUs"),
        pytest.param(0.0, 1, 0, None, 60.0, id="no replica: a cold start"),
        pytest.param(6.0, 2, 0, None, 63.0, id="no replica: then the work on the first"),
        pytest.param(6.0, 2, 0, 20.0, 43.0, id="no replica: the oldest has waited already"),
        pytest.param(0.0, 1, 0, 999.0, 1.0, id="no replica: overdue counts as one second"),
    ],
)
def test_wait_estimate(
    ahead_gpu_s: float, gpus: int, ready: int, oldest_wait_s: float | None, expected_s: float
) -> None:
    wait_s = wait_estimate_s(
        ahead_gpu_s=ahead_gpu_s, gpus=gpus, ready=ready, cold_start_s=60.0, oldest_wait_s=oldest_wait_s
    )
    assert wait_s == pytest.approx(expected_s)


@given(st.floats(0.0, 1e4), st.integers(1, 8), st.integers(0, 9), st.none() | st.floats(0.0, 1e4))
def test_more_work_or_fewer_replicas_never_shorten_the_wait(
    ahead_gpu_s: float, gpus: int, ready: int, oldest_wait_s: float | None
) -> None:
    def wait_s(work_s: float, replicas: int) -> float:
        return wait_estimate_s(
            ahead_gpu_s=work_s, gpus=gpus, ready=replicas, cold_start_s=60.0, oldest_wait_s=oldest_wait_s
        )

    assert 0.0 <= wait_s(ahead_gpu_s, ready) <= wait_s(ahead_gpu_s + 1.0, ready)
    assert wait_s(ahead_gpu_s, ready + 1) <= wait_s(ahead_gpu_s, ready)
