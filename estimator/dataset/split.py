"""What to train on and what to test on: shapes, contexts and GPUs that training has not seen.

There is no split by engine version, on purpose: versions share tables (`Origin.shared_between_versions`).
"""

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from estimator.dataset.columns import Ints, Labels, Mask

_BUCKETS = 2**32


@dataclass(frozen=True, slots=True)
class Split:
    """Every row is in one of both."""

    test: Mask

    @property
    def train(self) -> Mask:
        return ~self.test


def unseen_shapes(shapes: Ints, test_ratio: float = 0.2, seed: int = 0) -> Split:
    """All rows of some shapes, for example (heads, KV heads, head size), to test on.

    `shapes` has one row per measurement. A shape's side depends on its numbers and the seed alone: it is the same in
    every table, and does not change when others are added. So the part of the shapes that is tested is near
    `test_ratio`, not exactly it.
    """
    if not 0 < test_ratio < 1:
        raise ValueError("test_ratio must be in (0, 1)")
    distinct, inverse = np.unique(shapes, axis=0, return_inverse=True)
    tested = np.asarray([_draw(shape, seed) < test_ratio for shape in distinct.tolist()], dtype=np.bool_)
    return Split(tested[inverse.reshape(-1)])


def longer_contexts(context_tokens: Ints, limit_tokens: int = 4096) -> Split:
    """Train on contexts of at most `limit_tokens`, test on longer ones."""
    return Split(context_tokens > limit_tokens)


def one_gpu_left_out(gpu: Labels, name: str) -> Split:
    """Train on the other GPUs, test on `name`, which must be there."""
    test = gpu.equal(name)
    if not test.any():
        raise ValueError(f"no rows of {name}")
    return Split(test)


def _draw(shape: list[int], seed: int) -> float:
    """A number in [0, 1) that is always the same for a shape and a seed."""
    text = ",".join(map(str, [seed, *shape]))
    return int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), "big") / _BUCKETS
