"""A built-in workload with the published statistics of a real one, for machines without a trace file.

The numbers are measured on the Azure Public Dataset's 2023 conversation trace (`AzureLLMInferenceTrace_conv.csv`,
CC-BY-4.0; Splitwise, ISCA 2024): 19,366 requests in 3,501.7 s. Token counts are drawn from the trace's own quantiles:
a log-normal fitted to mean 1,155 and median 1,020 has neither its two humps nor its 4k edge.
"""

import math
import random

from weighbridge.replay.trace import TracedRequest

REQUESTS_PER_S = 5.530
GAP_VARIATION = 1.094
"""Standard deviation of the time between arrivals over its mean (a Poisson process has 1)."""

QUANTILES = (0.0, 0.01, *(step / 20 for step in range(1, 20)), 0.99, 1.0)

# fmt: off
INPUT_TOKENS = (2, 29, 181, 207, 372, 387, 396, 403, 414, 703, 984, 1020, 1045, 1071, 1097, 1130, 1189, 1315, 1876, 2734, 4083, 4142, 14050)  # noqa: E501
OUTPUT_TOKENS = (7, 16, 41, 54, 67, 77, 85, 91, 96, 103, 113, 129, 151, 177, 217, 384, 395, 400, 411, 424, 451, 601, 1000)  # noqa: E501
# fmt: on
"""Trace values at `QUANTILES`. Trace means are 1,154.7 and 211.1; drawing from these tables gives 1,167 and 210."""


def synthetic_trace(*, minutes: float, rng: random.Random) -> list[TracedRequest]:
    """Requests of the first `minutes` (> 0): gamma-distributed gaps, independent token counts by quantile.

    Input and output tokens correlate by -0.11 in the trace; the workload leaves that out.
    """
    shape = 1 / GAP_VARIATION**2
    scale = 1 / (REQUESTS_PER_S * shape)
    requests = []
    at_s = 0.0
    while at_s < minutes * 60:
        requests.append(
            TracedRequest(at_s=at_s, input_tokens=_draw(INPUT_TOKENS, rng), output_tokens=_draw(OUTPUT_TOKENS, rng))
        )
        at_s += rng.gammavariate(shape, scale)
    return requests


def _draw(values: tuple[int, ...], rng: random.Random) -> int:
    """A value by inverse CDF; geometric between neighbouring quantiles, since the tails span decades."""
    share = rng.random()
    above = next(index for index, quantile in enumerate(QUANTILES) if quantile > share)
    low, high = QUANTILES[above - 1], QUANTILES[above]
    position = (share - low) / (high - low)
    return round(math.exp(math.log(values[above - 1]) * (1 - position) + math.log(values[above]) * position))
