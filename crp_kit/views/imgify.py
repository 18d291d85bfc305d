"""Heatmaps as one picture (PIL), with the parameters that users of zennit know."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from ..checks import is_integer
from ..data.pixels import finite
from ..errors import InputError
from .image import DEFAULT_CMAP, PERCENTILE, ColorMap, colours, grid, scale_of

__all__ = ["imgify"]


def imgify(
    maps: Any,
    *,
    cmap: str | ColorMap = DEFAULT_CMAP,
    vmin: float | None = None,
    vmax: float | None = None,
    level: float = 1.0,
    symmetric: bool = True,
    percentile: float = PERCENTILE,
    columns: int | None = None,
) -> Image.Image:
    """Return heatmaps as an RGB picture, one pixel for each value; several stand in a grid.

    The names are those of ``zennit.image.imgify``; unlike there, the scale is symmetric unless asked otherwise, and
    ends at a percentile.

    Parameters
    ----------
    maps : torch.Tensor or array
        (height, width), or (row, height, width).
    cmap : str or zennit.cmap.ColorMap, optional
        Such as ``"coldnhot"``, ``"bwr"``; as for `crp_kit.views.image.colours`.
    vmin, vmax : float, optional
        Values with the first and the last colour; by default those of each map.
    level : float, optional
        Above 1 colours are reached earlier, below 1 the outer ones not at all.
    symmetric : bool, optional
        Whether zero has the middle colour: the scale of a map ends at a percentile of its magnitudes on both sides.
        Otherwise it goes from its lowest to its highest value.
    percentile : float, optional
        Of the magnitudes, from 0 to 100; of a symmetric scale.
    columns : int, optional
        Of the grid; about as many as rows by default.

    Returns
    -------
    PIL.Image.Image

    Raises
    ------
    InputError
        If the maps are no planes or not finite, or the scale is empty.

    Examples
    --------
    >>> imgify([[-1.0, 0.0, 2.0]], cmap="bwr").getpixel((1, 0))
    (255, 255, 255)
    >>> imgify([[0.0, 1.0, 2.0]], cmap="bwr", symmetric=False).getpixel((1, 0))
    (255, 255, 255)
    """
    array = finite(maps)
    rows = array[None] if array.ndim == 2 else array
    if rows.ndim != 3 or not rows.size:
        raise InputError(f"heatmaps are (height, width) or (row, height, width); got shape {array.shape}")
    if columns is not None and not is_integer(columns, 1):
        raise InputError(f"columns is a whole number of at least 1; got {columns!r}")
    if not level > 0:
        raise InputError(f"level is a positive number; got {level!r}")
    pictures = []
    for row in rows:
        low, high = _ends(row, vmin, vmax, percentile=percentile if symmetric else None)
        if not low < high:
            raise InputError(f"the scale goes from vmin to vmax, a higher value; got {low:g} and {high:g}")
        part = (2 * row - low - high) / (high - low)
        pictures.append(Image.fromarray(colours(np.clip(level * part, -1, 1), cmap=cmap, vmax=1.0)))
    return pictures[0] if len(pictures) == 1 else grid(pictures, columns=columns)


def _ends(row: Any, vmin: float | None, vmax: float | None, *, percentile: float | None) -> tuple[float, float]:
    """Return the values with the first and the last colour."""
    if percentile is None:
        low, high = (
            (float(row.min()), float(row.max())) if np.ptp(row) else (float(row.min()) - 1, float(row.max()) + 1)
        )
        return low if vmin is None else vmin, high if vmax is None else vmax
    scale = scale_of(row, percentile=percentile)
    low = vmin if vmin is not None else -(scale if vmax is None else vmax)
    return low, vmax if vmax is not None else -low
