"""KV blocks of one model server: who holds how many, and which prompt blocks can be used again.

A block is held (counted in `used_blocks`), idle (nobody holds it, but its content is a known prompt block that a
later request may use) or empty. Idle blocks count as free: they are overwritten, least recently used first, when
empty ones run out.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Holding:
    """The blocks of one sequence: `private` ones, and `shared` ones by the hash of what they contain."""

    private: int = 0
    shared: list[int] = field(default_factory=list)
    published: int = 0
    """Leading prompt blocks already offered to other sequences."""

    @property
    def blocks(self) -> int:
        return self.private + len(self.shared)


class KvCache:
    """Allocation of `blocks` blocks of `block_tokens` tokens each. No call leaves more held than there are."""

    def __init__(self, *, blocks: int, block_tokens: int) -> None:
        self.blocks = blocks
        self.block_tokens = block_tokens
        self.used_blocks = 0
        self._holders: dict[int, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()

    @property
    def free_blocks(self) -> int:
        """Blocks that a sequence could get now, idle ones included."""
        return self.blocks - self.used_blocks

    def blocks_of(self, tokens: int) -> int:
        return -(-tokens // self.block_tokens)

    def hits(self, hashes: Sequence[int]) -> int:
        """Leading blocks of a prompt whose content is present, held or idle."""
        count = 0
        for block in hashes:
            if block not in self._holders:
                break
            count += 1
        return count

    def fits(self, tokens: int, hits: Sequence[int]) -> bool:
        """Whether a new sequence of `tokens` tokens could be held in full, given the present blocks `hits`."""
        revived = sum(1 for block in hits if not self._holders[block])
        return self.blocks_of(tokens) - len(hits) <= self.free_blocks - revived

    def share(self, holding: Holding, hits: Sequence[int]) -> None:
        """Let an empty `holding` begin with the present blocks `hits`."""
        for block in hits:
            if not self._holders[block]:
                del self._idle[block]
                self.used_blocks += 1
            self._holders[block] += 1
        holding.shared.extend(hits)
        holding.published = len(hits)

    def grow(self, holding: Holding, tokens: int) -> bool:
        """Give `holding` the blocks that `tokens` tokens need; False, and nothing changes, when there are too few."""
        missing = self.blocks_of(tokens) - holding.blocks
        if missing <= 0:
            return True
        if missing > self.free_blocks:
            return False
        self.used_blocks += missing
        holding.private += missing
        while self.used_blocks + len(self._idle) > self.blocks:
            block, _ = self._idle.popitem(last=False)
            del self._holders[block]
        return True

    def publish(self, holding: Holding, hashes: Sequence[int], tokens: int) -> None:
        """Offer the full prompt blocks among the first `tokens` tokens to later sequences.

        A block whose content another sequence has already offered stays private: both copies exist.
        """
        full = min(len(hashes), tokens // self.block_tokens)
        for block in hashes[holding.published : full]:
            if block not in self._holders:
                self._holders[block] = 1
                holding.private -= 1
                holding.shared.append(block)
        holding.published = max(full, holding.published)

    def release(self, holding: Holding) -> None:
        """Take all blocks back; the end of a prompt is forgotten before its beginning, as longer prefixes are rarer."""
        self.used_blocks -= holding.private
        for block in reversed(holding.shared):
            self._holders[block] -= 1
            if not self._holders[block]:
                self.used_blocks -= 1
                self._idle[block] = None
        holding.private = 0
        holding.shared.clear()
        holding.published = 0
