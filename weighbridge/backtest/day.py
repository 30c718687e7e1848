"""The shape of a day's load: how arrivals at an even rate are spread over it. Pure."""

from bisect import bisect_right
from itertools import accumulate

# fmt: off
DAY = (
    1.147, 1.132, 1.13, 0.904, 0.801, 0.786, 0.741, 0.721, 0.734, 0.714, 0.552, 0.569, 0.637, 0.664, 0.711, 0.609,
    0.543, 0.595, 0.619, 0.591, 0.504, 0.46, 0.469, 0.42, 0.423, 0.431, 0.419, 0.422, 0.475, 0.438, 0.432, 0.463,
    0.452, 0.458, 0.451, 0.431, 0.491, 0.497, 0.492, 0.528, 0.522, 0.56, 0.565, 0.555, 0.567, 0.545, 0.627, 0.711,
    0.76, 0.872, 0.971, 0.999, 1.011, 0.918, 0.914, 1.047, 0.986, 1.065, 1.141, 1.195, 1.082, 1.099, 1.131, 1.162,
    1.11, 1.137, 1.179, 1.093, 1.041, 1.058, 1.094, 1.117, 0.977, 1.015, 1.07, 1.009, 1.025, 1.038, 1.052, 1.023,
    1.0, 0.993, 0.99, 0.962, 0.954, 0.923, 0.933, 0.914, 0.89, 0.905, 0.915, 0.94, 0.939, 0.963, 1.026, 1.037,
    0.936, 1.007, 1.011, 1.112, 1.085, 1.224, 1.248, 1.125, 1.058, 1.139, 1.159, 1.15, 1.133, 1.131, 1.177, 1.183,
    1.28, 1.307, 1.318, 1.357, 1.415, 1.464, 1.543, 1.559, 1.68, 1.746, 1.795, 1.855, 1.901, 1.964, 1.848, 1.85,
    1.797, 1.689, 1.759, 1.598, 1.572, 1.535, 1.443, 1.468, 1.405, 1.315, 1.345, 1.356, 1.185, 1.212, 1.085, 1.091,
)
# fmt: on
"""Request rate over its mean in the 144 ten-minute windows of the second day of ServeGen's m-small rates (Alibaba,
Apache-2.0), summed over its 43 clients."""

FLAT = (1.0,)


class Warp:
    """Maps work done at a rate of 1 to time, so that the rate follows `shape` over `length_s`. The mean stays 1."""

    def __init__(self, shape: tuple[float, ...], length_s: float) -> None:
        """The rate goes straight from one window's value to the next one's, and from the last back to the first."""
        mean = sum(shape) / len(shape)
        following = (*shape[1:], shape[0])
        step_s = length_s / len(shape)
        areas = [step_s * (a + b) / 2 / mean for a, b in zip(shape, following, strict=True)]
        self._done = [0.0, *accumulate(areas)]
        self._step_s = step_s

    def at_s(self, done: float) -> float:
        """When so many seconds' worth of the mean rate have passed: `done` in [0, length_s]."""
        index = min(bisect_right(self._done, done), len(self._done) - 1) - 1
        low, high = self._done[index], self._done[index + 1]
        return (index + (done - low) / (high - low)) * self._step_s
