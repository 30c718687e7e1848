import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from simulator.kv import Holding, KvCache


def cache(blocks: int) -> KvCache:
    return KvCache(blocks=blocks, block_tokens=16)


@pytest.mark.parametrize(("tokens", "blocks"), [(0, 0), (1, 1), (16, 1), (17, 2), (32, 2), (33, 3)])
def test_a_block_is_taken_when_its_first_token_comes(tokens: int, blocks: int) -> None:
    kv, holding = cache(10), Holding()
    assert kv.grow(holding, tokens)
    assert (holding.blocks, kv.used_blocks, kv.free_blocks) == (blocks, blocks, 10 - blocks)


def test_growth_that_does_not_fit_changes_nothing() -> None:
    kv, holding = cache(2), Holding()
    assert kv.grow(holding, 20)
    assert not kv.grow(holding, 33)
    assert (holding.blocks, kv.used_blocks) == (2, 2)


def test_published_blocks_are_found_after_their_holder_has_gone() -> None:
    kv, first, second = cache(4), Holding(), Holding()
    kv.grow(first, 40)
    kv.publish(first, (1, 2), 40)
    kv.release(first)
    assert kv.used_blocks == 0
    assert kv.hits((1, 2, 3)) == 2
    kv.share(second, (1, 2))
    assert (second.blocks, kv.used_blocks) == (2, 2)


def test_two_holders_of_one_block_use_it_once() -> None:
    kv, first, second = cache(4), Holding(), Holding()
    kv.grow(first, 16)
    kv.publish(first, (1,), 16)
    kv.share(second, (1,))
    assert kv.used_blocks == 1
    kv.release(first)
    assert kv.used_blocks == 1
    kv.release(second)
    assert kv.used_blocks == 0


def test_idle_blocks_are_overwritten_least_recently_used_and_latest_in_the_prompt_first() -> None:
    kv, old, new, late = cache(4), Holding(), Holding(), Holding()
    for holding, hashes in ((old, (1, 2)), (new, (3, 4))):
        kv.grow(holding, 32)
        kv.publish(holding, hashes, 32)
        kv.release(holding)
    kv.grow(late, 16)
    assert (kv.hits((1, 2)), kv.hits((3, 4))) == (1, 2)


def test_blocks_that_would_be_revived_are_not_counted_as_free_too() -> None:
    kv, first = cache(3), Holding()
    kv.grow(first, 32)
    kv.publish(first, (1, 2), 32)
    kv.release(first)
    assert kv.fits(48, (1, 2))
    assert not kv.fits(49, (1, 2))


class KvMachine(RuleBasedStateMachine):
    """Any order of calls that the engine may make keeps the books balanced."""

    @initialize(blocks=st.integers(1, 12))
    def start(self, blocks: int) -> None:
        self.kv = cache(blocks)
        self.holdings: list[Holding] = []

    @rule(prompt=st.integers(0, 2), tokens=st.integers(1, 80))
    def admit(self, prompt: int, tokens: int) -> None:
        hashes = tuple(prompt * 100 + index for index in range(tokens // 16))
        hits = hashes[: self.kv.hits(hashes)]
        if self.kv.fits(tokens, hits):
            holding = Holding()
            self.kv.share(holding, hits)
            assert self.kv.grow(holding, tokens)
            self.kv.publish(holding, hashes, tokens)
            assert holding.blocks == self.kv.blocks_of(tokens)
            self.holdings.append(holding)

    @rule(index=st.integers(0, 20), more=st.integers(1, 40))
    def grow(self, index: int, more: int) -> None:
        if self.holdings:
            holding = self.holdings[index % len(self.holdings)]
            before, free = holding.blocks, self.kv.free_blocks
            grown = self.kv.grow(holding, before * 16 + more)
            assert grown == (self.kv.blocks_of(more) <= free)

    @rule(index=st.integers(0, 20))
    def release(self, index: int) -> None:
        if self.holdings:
            self.kv.release(self.holdings.pop(index % len(self.holdings)))

    @invariant()
    def what_is_held_is_counted_once(self) -> None:
        shared = {block for holding in self.holdings for block in holding.shared}
        assert self.kv.used_blocks == sum(holding.private for holding in self.holdings) + len(shared)
        assert 0 <= self.kv.used_blocks <= self.kv.blocks
        assert all(holding.private >= 0 for holding in self.holdings)

    def teardown(self) -> None:
        for holding in getattr(self, "holdings", []):
            self.kv.release(holding)
        if hasattr(self, "kv"):
            assert self.kv.used_blocks == 0


TestKvMachine = KvMachine.TestCase
