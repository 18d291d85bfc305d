"""Change points of a signal, by binary segmentation."""

from __future__ import annotations

import heapq

import numpy as np
import numpy.typing as npt

__all__ = ["change_points"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def change_points(signal: Floats, count: int) -> Integers:
    """Return the stretch that each time step belongs to: (time,), numbered from 0, at most `count` of them.

    Binary segmentation: the cut that lowers the sum of squared deviations from the stretches' means most is made, again
    and again; there are fewer stretches where no cut lowers it. Channels count alike: each is divided by its standard
    deviation first.

    Parameters
    ----------
    signal : array
        (time, channel).
    count : int
        Number of stretches, at least 1.

    References
    ----------
    Scott and Knott, "A cluster analysis method for grouping means in the analysis of variance", Biometrics 30, 1974.
    """
    spread = signal.std(0)
    scaled = (signal - signal.mean(0)) / np.where(spread > 0, spread, 1)
    sums = np.concatenate([np.zeros((1, scaled.shape[1])), scaled.cumsum(0)])
    cuts = [0]
    candidates = [_best_cut(sums, 0, len(signal))]
    while candidates and len(cuts) < count:
        gain, cut, first, end = heapq.heappop(candidates)
        if -gain <= 1e-9 * len(signal):  # rounding of the sums, which grow with the length
            break
        cuts.append(cut)
        for start, stop in ((first, cut), (cut, end)):
            if stop - start > 1:
                heapq.heappush(candidates, _best_cut(sums, start, stop))
    numbers = np.zeros(len(signal), dtype=np.int64)
    numbers[sorted(cuts)[1:]] = 1
    return numbers.cumsum()


def _best_cut(sums: Floats, first: int, end: int) -> tuple[float, int, int, int]:
    """Return the negative gain of the best cut of a stretch, its time step, and the stretch; of equals the earliest.

    With sums S and lengths n of the two parts, the sum of squares falls by S_1^2/n_1 + S_2^2/n_2 - S^2/n.
    """
    if end - first < 2:
        return 0.0, first, first, end
    cuts = np.arange(first + 1, end)
    left, right, whole = sums[cuts] - sums[first], sums[end] - sums[cuts], sums[end] - sums[first]
    gain = (left**2).sum(1) / (cuts - first) + (right**2).sum(1) / (end - cuts) - (whole**2).sum() / (end - first)
    best = int(gain.argmax())
    return -float(gain[best]), int(cuts[best]), first, end
