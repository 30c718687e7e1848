"""What our kernels are compared with: estimates that know less, each fitted to the same rows where it learns at all."""

import numpy as np

from estimator.dataset.columns import Floats, Mask
from estimator.evaluate.fit import factors
from estimator.train.samples import SampleSet

ROOFLINE = "roofline"
PHYSICS = "physics only"
NETWORK = "network only"
TOKENS = "linear in tokens"


def roofline_s(one: SampleSet) -> Floats:
    """What the spec sheet says: the longer of FLOPs and bytes at the peaks. Nothing is fitted."""
    return one.roofline_s


def linear_s(one: SampleSet, train: Mask) -> Floats:
    """A fixed time and a time per token, fitted to the rows in `train` by least relative error."""
    columns = np.stack([np.ones(len(one)), one.tokens.astype(np.float64)], axis=1)
    # A line through relative errors may cross zero; a kernel takes a tenth of a microsecond at least.
    return np.maximum(columns @ factors(columns[train], one.latency_s[train]), 1e-7)
