"""Images in which only the relevant part shows: dark elsewhere, or opaque only there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ..data.pixels import plane
from ..errors import InputError
from .image import PERCENTILE, picture, scale_of

__all__ = ["LEGENDS", "check_same_size", "masked_image", "opaque_image"]

_RELEVANT = 0.35
"""Positive relevance, smoothed, from this share of its scale on leaves an image as it is."""
_DARKEST, _PALEST = 0.12, 0.22
"""Remaining brightness, or colour, where nothing is relevant."""
LEGENDS = {
    "masked": f"dark: positive relevance, smoothed, is below {_RELEVANT:.0%} of its highest values in the image",
    "opaque": f"inside the line: positive relevance, smoothed, is above {_RELEVANT:.0%} of its highest values in the "
    f"image",
}


def masked_image(image: Any, heatmap: Any, *, percentile: float = PERCENTILE) -> npt.NDArray[np.float64]:
    """Return an image, dark where positive relevance is low: (height, width, 3)."""
    pixels, relevance = _pixels_and_relevance(image, heatmap, percentile)
    weight = np.clip(relevance / _RELEVANT, 0, 1)[..., None]
    return pixels * (_DARKEST + (1 - _DARKEST) * weight)


def opaque_image(
    image: Any, heatmap: Any, *, percentile: float = PERCENTILE
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Return an image, pale where positive relevance is low, (height, width, 3), and where it is high."""
    pixels, relevance = _pixels_and_relevance(image, heatmap, percentile)
    region: npt.NDArray[np.bool_] = relevance > _RELEVANT
    return np.where(region[..., None], pixels, 1 - _PALEST * (1 - pixels)), region


def check_same_size(image: Sequence[int], heatmap: Sequence[int]) -> None:
    """Make sure that a position in a heatmap is the same position in its image.

    Raises
    ------
    InputError
        If their sizes differ.
    """
    if tuple(image) != tuple(heatmap):
        raise InputError(
            f"an image of {tuple(image)} pixels has a heatmap of {tuple(heatmap)}, and places in one are none in the "
            f"other; let the dataset resize and crop, not preprocess, or take style 'map'"
        )


def _pixels_and_relevance(
    image: Any, heatmap: Any, percentile: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[Any]]:
    pixels, relevance = np.asarray(picture(image), dtype=np.float64) / 255, plane(heatmap)
    check_same_size(pixels.shape[:2], relevance.shape)
    smooth = _smoothed(relevance)
    return pixels, smooth / scale_of(smooth, percentile=percentile)


def _smoothed(heatmap: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return positive relevance, smoothed: (height, width)."""
    radius = min(min(heatmap.shape) // 12 + 1, min(heatmap.shape) - 1)
    positive = np.maximum(np.asarray(heatmap, np.float64), 0)
    smooth: npt.NDArray[Any] = ndimage.gaussian_filter(positive, 0.3 * radius + 0.5, radius=radius, mode="mirror")
    return smooth
