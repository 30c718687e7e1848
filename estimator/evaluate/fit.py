"""A sum of parts fitted to measurements by the mean of relative errors, the measure that estimates are judged by."""

import numpy as np

from estimator.dataset.columns import Floats

ROUNDS = 40
LEAST_ERROR = 1e-3
"""Relative errors below this count like it: else one point that is met exactly would decide alone."""


def factors(parts: Floats, measured: Floats, known: Floats | float = 0.0) -> Floats:
    """What each column of `parts` is multiplied by so that their sum has the least mean of |sum / measured - 1|.

    `known` is added to the sum as it is. Iteratively reweighted least squares. Raises `ValueError` for fewer rows than
    columns.
    """
    rows, columns = parts.shape
    if rows < columns:
        raise ValueError(f"{rows} measurements for {columns} factors")
    relative = parts / measured[:, None]
    wanted = 1.0 - known / measured
    weights = np.ones(rows)
    found: Floats = np.zeros(columns)
    for _ in range(ROUNDS):
        root = np.sqrt(weights)
        found = np.asarray(np.linalg.lstsq(relative * root[:, None], wanted * root, rcond=None)[0], dtype=np.float64)
        weights = 1.0 / np.maximum(np.abs(relative @ found - wanted), LEAST_ERROR)
    return found
