"""Counter-based random numbers: the number for a key is the same, bit for bit, in whatever order numbers are drawn.

NumPy's Philox is counter-based too, but other numbers would give other images than those that the demo model was
trained on, and it has one generator for each key where here one call draws for all samples of a batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Booleans", "Draws", "Floats", "Integers", "Words", "hashed"]

Floats = npt.NDArray[np.floating[Any]]
Booleans = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]


def hashed(words: Words) -> Words:
    """Scatter 64-bit words over all 64-bit words, one to one.

    References
    ----------
    Steele, Lea and Flood, OOPSLA 2014, "Fast splittable pseudorandom number generators": the step and the mix function
    of SplitMix64.
    """
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


class Draws:
    """A row of random numbers for each sample, handed out from left to right.

    Parameters
    ----------
    keys : array of uint64
        One key for each sample: sample.
    stream : int
        Another stream gives other numbers for the same keys.
    """

    def __init__(self, keys: Words, stream: int) -> None:
        self._keys = hashed(keys ^ np.uint64(stream))
        self._drawn = 0

    def uniform(self, low: float, high: float) -> Floats:
        """Float32 values in [low, high]: sample."""
        self._drawn += 1
        words = hashed(self._keys ^ np.uint64(self._drawn))
        return low + (high - low) * ((words >> np.uint64(40)).astype(np.float32) * np.float32(2**-24))

    def integer(self, stop: int) -> Integers:
        """Whole values in [0, stop): sample. `stop` is small."""
        self._drawn += 1
        words = hashed(self._keys ^ np.uint64(self._drawn))
        return ((words >> np.uint64(40)) % np.uint64(stop)).astype(np.int64)

    def direction(self, spread: float) -> tuple[Floats, Floats]:
        """Cosine and sine of angles within ± 2 arctan(spread), by the rational parametrisation: sample each."""
        slope = self.uniform(-spread, spread)
        square = slope * slope
        return (1 - square) / (1 + square), 2 * slope / (1 + square)
