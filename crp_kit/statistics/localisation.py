"""Localisation of heatmaps: how much of their positive relevance and strongest positions is inside of masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError
from .arrays import Bools, Floats

__all__ = ["LocalisationScores", "localisation_scores", "otsu_threshold"]


@dataclass(frozen=True, eq=False)
class LocalisationScores:
    """Scores of heatmaps against masks, (row,) each; NaN where a mask is empty or a score is not defined.

    Parameters
    ----------
    mass : array
        Share of the positive relevance that is inside of the mask; NaN where no relevance is positive.
    rank : array
        Share of as many of the most relevant positions as the mask has that are inside of it.
    pointing : array
        Whether the most relevant position is inside of the mask; of several, the share that is.
    iou : array
        Intersection over union of the mask and the positions above Otsu's threshold of the positive part; NaN where
        that has one value only.
    mask_share : array
        Share of all positions that the mask has: what mass, rank and pointing have by chance.
    iou_by_chance : array
        Intersection over union of the mask and a region of the same area that knows nothing of it: a m / (a + m - a m)
        for area a and mask share m.
    """

    mass: Floats
    rank: Floats
    pointing: Floats
    iou: Floats
    mask_share: Floats
    iou_by_chance: Floats


def localisation_scores(heatmaps: Any, masks: Any) -> LocalisationScores:
    """Return how well heatmaps are localised in masks.

    The scores are of the positive part of a heatmap: all that is negative counts as 0. Where positions are equal, the
    rank and pointing scores are their expectation over all orders of these.

    Parameters
    ----------
    heatmaps : array
        (row, *place).
    masks : array of bool
        Of the same shape.

    Raises
    ------
    InputError
        If shapes differ, masks are no booleans, or a value is NaN or infinite.

    References
    ----------
    Arras, Osman and Samek, "CLEVR-XAI: a benchmark dataset for the ground truth evaluation of neural network
    explanations", Information Fusion 81, 2022: relevance mass and rank accuracy. Zhang et al., "Top-down neural
    attention by excitation backprop", International Journal of Computer Vision 126, 2018: the pointing game. Otsu, "A
    threshold selection method from gray-level histograms", IEEE Transactions on Systems, Man, and Cybernetics 9, 1979.

    Examples
    --------
    >>> scores = localisation_scores([[[3.0, 1.0], [-5.0, 0.0]]], [[[True, False], [True, False]]])
    >>> scores.mass, scores.pointing, scores.mask_share
    (array([0.75]), array([1.]), array([0.5]))
    """
    maps, inside = _checked(heatmaps, masks)
    size = inside.sum(1)
    held = np.where(size > 0, 1.0, np.nan)
    total = maps.sum(1)
    mass = (maps * inside).sum(1) / np.where(total > 0, total, np.nan)
    selected = np.stack([row > otsu_threshold(row) for row in maps]) if len(maps) else inside
    varies = np.where(np.ptp(maps, axis=1) > 0, 1.0, np.nan) if len(maps) else held
    share, area = size / maps.shape[1], selected.mean(1)
    iou = (selected & inside).sum(1) / np.maximum((selected | inside).sum(1), 1)
    by_chance = area * share / np.maximum(area + share - area * share, 1e-300)
    return LocalisationScores(
        mass * held,
        _share_of_first(maps, inside, np.maximum(size, 1)) * held,
        _share_of_first(maps, inside, np.ones(len(maps), np.int64)) * held,
        iou * held * varies,
        share * held,
        by_chance * held * varies,
    )


def otsu_threshold(values: Any) -> float:
    """Return the value for which those above it and the others differ most: the between-class variance is largest.

    Parameters
    ----------
    values : array
        Of any shape, at least one. Every value is tried as a threshold; of equals the lowest counts.

    Examples
    --------
    >>> otsu_threshold([0.0, 0.1, 0.1, 0.9, 1.0])
    0.1
    """
    ordered = np.sort(np.asarray(values, np.float64).ravel())
    count, sums = np.arange(1, len(ordered)), np.cumsum(ordered)
    if not len(count) or ordered[0] == ordered[-1]:
        return float(ordered[-1])
    below, above = sums[:-1] / count, (sums[-1] - sums[:-1]) / (len(ordered) - count)
    between = count * (len(ordered) - count) * (above - below) ** 2
    between[ordered[1:] == ordered[:-1]] = -1  # no threshold parts equal values
    return float(ordered[int(between.argmax())])


def _checked(heatmaps: Any, masks: Any) -> tuple[Floats, Bools]:
    """Return the positive part of heatmaps and their masks, (row, position)."""
    maps, inside = np.asarray(heatmaps, np.float64), np.asarray(masks)
    if maps.ndim < 2 or maps.shape != inside.shape or inside.dtype != np.bool_ or not maps[:1].size:
        raise InputError(
            f"heatmaps are (row, *place) and masks booleans of the same shape; got {maps.shape} and {inside.shape} of "
            f"{inside.dtype}"
        )
    if not np.isfinite(maps).all():
        raise InputError("a heatmap has values that are NaN or infinite")
    return np.maximum(maps, 0).reshape(len(maps), -1), inside.reshape(len(maps), -1)


def _share_of_first(maps: Floats, inside: Bools, counts: Any) -> Floats:
    """Return the expected share of the `counts` most relevant positions that is inside: (row,)."""
    shares = np.empty(len(maps))
    for number, (row, mask, count) in enumerate(zip(maps, inside, counts, strict=True)):
        last = np.partition(row, len(row) - count)[len(row) - count]
        above, equal = row > last, row == last
        hits = (above & mask).sum() + (count - above.sum()) * mask[equal].mean()
        shares[number] = hits / count
    return shares
