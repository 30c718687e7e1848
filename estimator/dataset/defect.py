"""Which measured rows an engine does not reproduce, and why: masks, and one verdict per row."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from estimator.dataset.columns import Floats, Ints, Mask


class Reason(StrEnum):
    """Why a row is dropped. The first that applies, in this order, is the row's reason."""

    INVALID_LATENCY = "invalid-latency"
    """Not a number, infinite, zero or negative."""
    FASTER_THAN_ARITHMETIC = "faster-than-arithmetic"
    """More FLOP/s than the GPU's peak."""
    FITS_L2 = "fits-l2"
    """The benchmark reads the same KV cache again and again, out of the L2. In an engine other layers evict it. Such
    rows tell only the floor of a launch."""
    FASTER_THAN_MEMORY = "faster-than-memory"
    """More bytes/s than the GPU's memory delivers."""
    REPEATED_SHAPE = "repeated-shape"
    """Measured before, in a row that is kept, under equal conditions: a random split would put one on each side."""


_REASONS = tuple(Reason)
_KEPT = -1


@dataclass(frozen=True, slots=True)
class Verdict:
    """One reason per row, or none."""

    codes: NDArray[np.int8]
    """Index into `Reason`, -1 for a row that is kept."""

    @property
    def kept(self) -> Mask:
        return np.equal(self.codes, _KEPT)

    def because(self, reason: Reason) -> Mask:
        return np.equal(self.codes, _REASONS.index(reason))

    def counts(self) -> Mapping[Reason, int]:
        """Dropped rows by reason; reasons without rows are left out."""
        counts = {reason: int(self.because(reason).sum()) for reason in Reason}
        return MappingProxyType({reason: count for reason, count in counts.items() if count})


def judge(masks: Mapping[Reason, Mask]) -> Verdict:
    """The first reason, in the order of `Reason`, whose mask holds for a row. There must be at least one mask."""
    size = len(next(iter(masks.values())))
    codes = np.full(size, _KEPT, dtype=np.int8)
    for code, reason in enumerate(_REASONS):
        if reason in masks:
            codes[(codes == _KEPT) & masks[reason]] = code
    return Verdict(codes)


def invalid_latency(latency_s: Floats) -> Mask:
    return ~(np.isfinite(latency_s) & (latency_s > 0))


def repeated_shape(shapes: Ints, usable: Mask) -> Mask:
    """Rows, one shape each, that equal an earlier usable row."""
    rows = np.flatnonzero(usable)
    repeated = np.array(usable)
    _, first = np.unique(shapes[rows], axis=0, return_index=True)
    repeated[rows[first]] = False
    return repeated


def fits_l2(kv_bytes: Floats, l2_bytes: float) -> Mask:
    return kv_bytes <= l2_bytes


def faster_than(amount: Floats, latency_s: Floats, peak_per_s: Floats | float) -> Mask:
    """Where `amount`, in FLOPs or bytes, takes less time than at the peak. Invalid latencies are not fast."""
    with np.errstate(invalid="ignore"):
        return (amount > latency_s * peak_per_s) & ~invalid_latency(latency_s)
