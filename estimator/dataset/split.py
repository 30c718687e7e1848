"""What to train on and what to test on: shapes, contexts and GPUs that training has not seen.

There is no split by engine version, on purpose: versions share tables (`Origin.shared_between_versions`).
"""

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from estimator.dataset.columns import Ints, Labels, Mask

_BUCKETS = 2**32


class EmptySideError(ValueError):
    """A split that leaves no row to train on, or none to test on."""


@dataclass(frozen=True, slots=True)
class Split:
    """Every row is in one of both, and both have rows."""

    test: Mask

    @property
    def train(self) -> Mask:
        return ~self.test


def unseen_shapes(shapes: Ints, test_ratio: float = 0.2, seed: int = 0) -> Split:
    """All rows of some shapes, for example (heads, KV heads, head size), to test on.

    `shapes` has one row per measurement. A shape's side depends on its numbers and the seed alone: it is the same in
    every table, and does not change when others are added. So the part of the shapes that is tested is near
    `test_ratio`, not exactly it. `EmptySideError` if all shapes are drawn for one side, as happens to few of them.
    """
    if not 0 < test_ratio < 1:
        raise ValueError("test_ratio must be in (0, 1)")
    distinct, inverse = np.unique(shapes, axis=0, return_inverse=True)
    tested = np.asarray([_draw(shape, seed) < test_ratio for shape in distinct.tolist()], dtype=np.bool_)
    return _split(tested[inverse.reshape(-1)], f"{len(distinct)} shapes, of which a part of {test_ratio} is drawn")


def longer_contexts(context_tokens: Ints, limit_tokens: int = 4096) -> Split:
    """Train on contexts of at most `limit_tokens`, test on longer ones. `EmptySideError` without either."""
    return _split(context_tokens > limit_tokens, f"contexts up to {limit_tokens} tokens and longer ones")


def one_gpu_left_out(gpu: Labels, name: str) -> Split:
    """Train on the other GPUs, test on `name`. `EmptySideError` if one of both is not there."""
    return _split(gpu.equal(name), f"{name} and other GPUs")


def _split(test: Mask, between: str) -> Split:
    if not test.any():
        raise EmptySideError(f"{between}: no rows to test on, of {len(test)}")
    if test.all():
        raise EmptySideError(f"{between}: no rows to train on, of {len(test)}")
    return Split(test)


def _draw(shape: list[int], seed: int) -> float:
    """A number in [0, 1) that is always the same for a shape and a seed."""
    text = ",".join(map(str, [seed, *shape]))
    return int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), "big") / _BUCKETS
