"""Attention of mixed batches: on long contexts, and on a GPU of which only 200 rows are known."""

from collections.abc import Iterator, Sequence

import numpy as np

from estimator.dataset.columns import Mask
from estimator.evaluate.figure import Figure, median_mape
from estimator.evaluate.kernels import LIMIT_TOKENS, by_context, judged
from estimator.kernels.model import Op
from estimator.train.fit import Recipe
from estimator.train.fitter import Done, Fitter
from estimator.train.samples import SampleSet, join

QUANTITY = "attention of mixed batches"
KNOWN_ROWS = 200
REPEATS = 20
"""How often each known row stands in the training set, beside thousands of the other GPU."""


def with_some_rows(other: SampleSet, one: SampleSet, seed: int) -> tuple[SampleSet, Mask]:
    """All rows of `other` and 200 of `one` to train on, under the name of `one`; the rest of it to test on."""
    order = np.random.default_rng(seed).permutation(len(one))
    known = one.where(np.repeat(order[:KNOWN_ROWS], REPEATS))
    joined = join([known, other, one.where(order[KNOWN_ROWS:])])
    return joined, np.arange(len(joined)) < len(known) + len(other)


def figures(sets: Sequence[SampleSet], recipe: Recipe, fits: Fitter, done: Done) -> Iterator[Figure]:
    """`sets` are those of `samples.collect`. None without mixed batches."""
    mixed = [one for one in sets if one.op == Op.MIXED]
    kept, train = by_context(mixed)
    if kept:
        split = f"contexts above {LIMIT_TOKENS} tokens, trained on shorter ones"
        lines = judged(kept, train, recipe, fits, done)
        yield median_mape(lines, quantity=QUANTITY, split=split, high=0.08)
    pairs = [(other, one) for other in mixed for one in mixed if other.gpu != one.gpu]
    if pairs:
        joined = [with_some_rows(other, one, recipe.seed) for other, one in pairs]
        split = f"one GPU, trained on another and {KNOWN_ROWS} rows"
        lines = judged([one for one, _ in joined], [rows for _, rows in joined], recipe, fits, done)
        yield median_mape(lines, quantity=QUANTITY, split=split, high=0.10)
