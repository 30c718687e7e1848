"""The ledger against a plain model of flights, over any history; and what one flight does to it."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from backlog.records import ReplicaShare
from estimator.price import Weight
from gateway.ledger import NOTHING, Flight, ReplicaLedger, add_shares
from tests.gateway.builders import share, weight

FIELDS = ("in_flight", "prefill_s", "prefill_tokens", "kv_tokens", "remaining_gpu_s")
SHARES = st.builds(
    ReplicaShare,
    in_flight=st.integers(1, 50),
    prefill_s=st.floats(0.0, 2.0),
    prefill_tokens=st.integers(0, 50_000),
    kv_tokens=st.integers(0, 200_000),
    remaining_gpu_s=st.floats(0.0, 60.0),
)


@dataclass
class Sent:
    """What the model knows about one flight."""

    weight: Weight
    due_at_s: float | None
    prefilling: bool = True
    flying: bool = True


class LedgerAgainstModel(RuleBasedStateMachine):
    """Flights start, show a first token, settle (twice, too); other workers are heard; silent ones are released."""

    flights = Bundle("flights")
    ended = Bundle("ended")

    @initialize(gpus=st.integers(1, 4))
    def begin(self, gpus: int) -> None:
        self.gpus = gpus
        self.ledger = ReplicaLedger("r0", gpus=gpus)
        self.now_s = 100.0
        self.sent: list[Sent] = []
        self.silent: list[Sent] = []
        self.remote = NOTHING

    @rule(pause_s=st.floats(0.0, 2.0))
    def time_passes(self, pause_s: float) -> None:
        self.now_s += pause_s

    @rule(
        target=flights,
        prefill_s=st.floats(0.0, 1.0),
        decode_s=st.floats(0.0, 9.0),
        input_tokens=st.integers(1, 20_000),
        ahead_s=st.floats(0.0, 1.0),
        silent=st.booleans(),
    )
    def start(
        self, prefill_s: float, decode_s: float, input_tokens: int, ahead_s: float, silent: bool
    ) -> tuple[Flight, Sent]:
        request = weight(
            prefill_s, decode_s, input_tokens=input_tokens, gpus=self.gpus, cached_tokens=input_tokens // 3
        )
        flight = self.ledger.start(request, now_s=self.now_s, ahead_s=ahead_s, silent=silent)
        made = Sent(request, self.now_s + ahead_s + prefill_s if silent else None)
        self.sent.append(made)
        if silent:
            self.silent.append(made)
        return flight, made

    @rule(pair=flights)
    def first_token(self, pair: tuple[Flight, Sent]) -> None:
        flight, made = pair
        self.ledger.first_token(flight, self.now_s)
        made.prefilling = False

    @rule(pair=consumes(flights), target=ended)
    def settle(self, pair: tuple[Flight, Sent]) -> tuple[Flight, Sent]:
        flight, made = pair
        self.ledger.settle(flight, self.now_s)
        made.prefilling = made.flying = False
        return pair

    @rule(pair=ended, token=st.booleans())
    def settle_again(self, pair: tuple[Flight, Sent], token: bool) -> None:
        before = self.ledger.share()
        if token:
            self.ledger.first_token(pair[0], self.now_s)
        else:
            self.ledger.settle(pair[0], self.now_s)
        assert self.ledger.share() == before

    @rule(remote=SHARES | st.just(NOTHING))
    def hear(self, remote: ReplicaShare) -> None:
        self.ledger.hear(remote, self.now_s)
        self.remote = remote

    @rule(more=SHARES)
    def expect(self, more: ReplicaShare) -> None:
        self.ledger.expect(more, self.now_s)
        self.remote = add_shares(self.remote, more)

    @rule()
    def release_silent(self) -> None:
        released = False
        while self.silent:
            first = self.silent[0]
            assert first.due_at_s is not None
            if first.prefilling and first.due_at_s > self.now_s:
                break
            released = released or first.prefilling
            first.prefilling = False
            self.silent.pop(0)
        assert self.ledger.release_silent(self.now_s) is released

    @invariant()
    def the_sums_are_right(self) -> None:
        flying = [made for made in self.sent if made.flying]
        prefilling = [made for made in flying if made.prefilling]
        own = {
            "in_flight": len(flying),
            "prefill_s": sum(made.weight.prefill_s for made in prefilling),
            "prefill_tokens": sum(made.weight.input_tokens - made.weight.cached_tokens for made in prefilling),
            "kv_tokens": sum(made.weight.kv_tokens for made in flying),
            "remaining_gpu_s": sum(made.weight.gpu_s for made in flying)
            - sum(made.weight.prefill_s * self.gpus for made in flying if not made.prefilling),
        }
        for name, value in own.items():
            assert getattr(self.ledger.own, name) == pytest.approx(value, abs=1e-9), name
            both = value + getattr(self.remote, name)
            assert getattr(self.ledger.load, name) == pytest.approx(both, abs=1e-9), name

    @invariant()
    def nothing_is_negative_and_what_is_published_is_what_is_own(self) -> None:
        for name in FIELDS:
            assert getattr(self.ledger.load, name) >= -1e-9, name
            assert getattr(self.ledger.share(), name) >= 0, name
            assert getattr(self.ledger.share(), name) == pytest.approx(getattr(self.ledger.own, name), abs=1e-9), name

    @invariant()
    def an_empty_ledger_holds_exactly_nothing(self) -> None:
        if not any(made.flying for made in self.sent):
            assert self.ledger.share() == NOTHING
            if self.remote == NOTHING:
                assert [getattr(self.ledger.load, name) for name in FIELDS] == pytest.approx([0] * 5, abs=1e-9)

    @invariant()
    def progress_is_never_in_the_future(self) -> None:
        assert self.ledger.load.progressed_at_s <= self.now_s


TestLedgerAgainstModel = LedgerAgainstModel.TestCase
TestLedgerAgainstModel.settings = settings(max_examples=60, stateful_step_count=40)


# One flight


def test_a_first_token_releases_the_prefill_and_keeps_the_rest() -> None:
    ledger = ReplicaLedger("r0", gpus=2)
    flight = ledger.start(weight(0.5, 2.0, input_tokens=100, gpus=2), now_s=1.0, ahead_s=0.0, silent=False)
    assert ledger.load.remaining_gpu_s == pytest.approx(5.0)
    ledger.first_token(flight, 1.5)
    assert (ledger.load.prefill_s, ledger.load.prefill_tokens) == (0.0, 0)
    assert (ledger.load.in_flight, ledger.load.kv_tokens) == (1, 500)
    assert ledger.load.remaining_gpu_s == pytest.approx(4.0)
    assert ledger.load.progressed_at_s == 1.5


def test_prefill_that_begins_on_an_idle_replica_has_made_no_progress() -> None:
    ledger = ReplicaLedger("r0", gpus=1)
    ledger.start(weight(0.5), now_s=50.0, ahead_s=0.0, silent=False)
    assert ledger.load.progressed_at_s == 50.0
    ledger.start(weight(0.5), now_s=51.0, ahead_s=0.5, silent=False)
    assert ledger.load.progressed_at_s == 50.0


def test_a_silent_flight_is_released_when_it_must_be_done_and_not_before() -> None:
    ledger = ReplicaLedger("r0", gpus=1)
    ledger.start(weight(0.5), now_s=10.0, ahead_s=0.25, silent=True)
    assert not ledger.release_silent(10.74)
    assert ledger.load.prefill_s == 0.5
    assert ledger.release_silent(10.75)
    assert ledger.load.prefill_s == 0.0
    assert not ledger.release_silent(99.0)


def test_less_work_of_others_is_progress_and_more_is_not() -> None:
    ledger = ReplicaLedger("r0", gpus=1)
    ledger.hear(share(prefill_s=1.0), 10.0)
    assert ledger.load.progressed_at_s == 10.0
    ledger.hear(share(prefill_s=2.0), 11.0)
    assert ledger.load.progressed_at_s == 10.0
    ledger.hear(share(prefill_s=1.5), 12.0)
    assert ledger.load.progressed_at_s == 12.0
    ledger.hear(share(prefill_s=1.5), 13.0)
    assert ledger.load.progressed_at_s == 12.0


def test_expected_work_of_others_counts_until_their_next_report_replaces_it() -> None:
    ledger = ReplicaLedger("r0", gpus=1)
    ledger.start(weight(0.5, input_tokens=100), now_s=10.0, ahead_s=0.0, silent=False)
    ledger.hear(share(in_flight=2, prefill_s=1.0, kv_tokens=50), 10.0)
    ledger.expect(share(in_flight=1, prefill_s=0.25, kv_tokens=30), 11.0)
    assert (ledger.load.in_flight, ledger.load.prefill_s, ledger.load.kv_tokens) == (4, 1.75, 580)
    # More work is no progress, and it is not this worker's to report.
    assert ledger.load.progressed_at_s == 10.0
    assert (ledger.share().in_flight, ledger.share().prefill_s) == (1, 0.5)
    ledger.hear(share(in_flight=3, prefill_s=1.25, kv_tokens=80), 12.0)
    assert (ledger.load.in_flight, ledger.load.prefill_s, ledger.load.kv_tokens) == (4, 1.75, 580)


@given(st.lists(SHARES, min_size=2, max_size=6))
def test_shares_add_up(shares: list[ReplicaShare]) -> None:
    total = NOTHING
    for one in shares:
        total = add_shares(total, one)
    for name in FIELDS:
        assert getattr(total, name) == pytest.approx(sum(getattr(one, name) for one in shares)), name
