"""Fits many sets, a few at a time, in processes of one thread each: a fit's tensors are too small for more threads."""

from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import NamedTuple

import torch

from estimator.dataset.columns import Mask
from estimator.kernels.model import Op
from estimator.train.fit import Fitted, Recipe, fit
from estimator.train.samples import SampleSet

SETS_AT_ONCE = 24
"""What is fitted together does not depend on the number of processes, so neither do the results."""

Done = Callable[[], None]
"""Called when a batch of sets is fitted."""


class Fits(NamedTuple):
    """Fits under way: the places of each batch's sets, and what will be found for them."""

    batches: list[tuple[list[int], "Future[list[Fitted]]"]]

    def result(self, done: Done) -> list[Fitted]:
        """In the order of the sets. Raises what a fit raised."""
        found: dict[int, Fitted] = {}
        for places, future in self.batches:
            found |= dict(zip(places, future.result(), strict=True))
            done()
        return [found[place] for place in range(len(found))]


class Fitter:
    """Starts fits on an executor."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def start(self, sets: Sequence[SampleSet], train: Sequence[Mask], recipe: Recipe) -> Fits:
        """Coefficients of each set from the rows in `train`; sets may be of several ops."""
        places: dict[Op, list[int]] = {}
        for place, one in enumerate(sets):
            places.setdefault(one.op, []).append(place)
        batches = []
        for of_op in places.values():
            for start in range(0, len(of_op), SETS_AT_ONCE):
                batch = of_op[start : start + SETS_AT_ONCE]
                rows = [sets[place].where(train[place]) for place in batch]
                batches.append((batch, self._executor.submit(fit, rows, None, recipe)))
        return Fits(batches)


@contextmanager
def fitter(processes: int) -> Iterator[Fitter]:
    """A fitter of so many processes. They end with the block; after an error without what is not yet begun."""
    # Not forked: a copy of a process that has used torch may stand still.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_prepare) as executor:
        try:
            yield Fitter(executor)
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise


def process_count(text: str) -> int:
    """A number of processes as a command takes it. Raises `ArgumentTypeError` for what is not a number above 0."""
    if not text.isdecimal() or not int(text):
        raise ArgumentTypeError(f"{text!r} is not a number of processes: it must be 1 or more")
    return int(text)


def _prepare() -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
