"""Images cut into regions: a grid, single pixels, superpixels, or labels that somebody else made."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import torch

from ..errors import InputError

__all__ = ["COUNT", "Integers", "Regions", "Segmentation", "segment"]

Integers: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Segmentation: TypeAlias = Literal["grid", "pixels", "slic"]
Regions: TypeAlias = Segmentation | torch.Tensor | npt.NDArray[Any]

COUNT = 64
"""Regions of a grid, and superpixels, if nobody says how many."""


def segment(
    regions: Regions,
    image: Floats,
    *,
    count: int | tuple[int, int] | None = None,
    cell: int | tuple[int, int] | None = None,
) -> Integers:
    """Return the region that each pixel belongs to: (height, width), numbered from 0 without gaps.

    Parameters
    ----------
    regions : {"grid", "pixels", "slic"} or array
        Rectangles; every pixel for itself; superpixels by SLIC (Achanta et al., IEEE TPAMI 34, 2012), which need
        scikit-image; or labels, whole numbers (height, width), which are numbered anew in their own order.
    image : array
        (height, width, channel), values in [0, 1].
    count : int or (int, int), optional
        About how many regions a grid or SLIC makes; for a grid also its rows and columns.
    cell : int or (int, int), optional
        Side length of a grid's cells in pixels, or their height and width, instead of `count`.

    Raises
    ------
    InputError
        If there is no such segmentation, scikit-image is missing, a number is not positive or does not go with the
        segmentation, or labels are not whole numbers of the image's height and width.

    Examples
    --------
    >>> segment("grid", np.zeros((2, 6, 3)), cell=2)
    array([[0, 0, 1, 1, 2, 2],
           [0, 0, 1, 1, 2, 2]])
    """
    height, width = image.shape[:2]
    if not isinstance(regions, str):
        _refuse(count=count, cell=cell, of="labels that are given")
        return _numbered(_labels(regions, height, width))
    if regions not in get_args(Segmentation):
        raise InputError(f"regions is 'grid', 'pixels', 'slic' or labels (height, width); got {regions!r}")
    if regions == "pixels":
        _refuse(count=count, cell=cell, of="single pixels")
        return np.arange(height * width).reshape(height, width)
    if regions == "slic":
        _refuse(cell=cell, of="superpixels")
        return _superpixels(image, count)
    return _grid(height, width, count, cell)


def _refuse(*, of: str, **given: Any) -> None:
    named = [name for name, value in given.items() if value is not None]
    if named:
        raise InputError(f"{named[0]} is for {'a grid' if named[0] == 'cell' else 'a grid or slic'}, not for {of}")


def _labels(regions: Any, height: int, width: int) -> npt.NDArray[Any]:
    """Return labels that were given, checked."""
    array = regions.detach().cpu().numpy() if isinstance(regions, torch.Tensor) else np.asarray(regions)
    if array.dtype.kind not in "iu" or array.shape != (height, width):
        raise InputError(
            f"labels are whole numbers (height, width), here ({height}, {width}); got shape {array.shape} of "
            f"{array.dtype}"
        )
    return array


def _numbered(labels: npt.NDArray[Any]) -> Integers:
    """Return labels without gaps, in their own order."""
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.int64)


def _grid(height: int, width: int, count: Any, cell: Any) -> Integers:
    if count is not None and cell is not None:
        raise InputError("count and cell both say how fine the grid is; give one of them")
    if cell is not None:
        tall, wide = _pair("cell", cell) if isinstance(cell, tuple) else _pair("cell", (cell, cell))
        rows, columns = np.arange(height) // tall, np.arange(width) // wide
    else:
        down, across = _cells(height, width, COUNT if count is None else count)
        rows, columns = np.arange(height) * down // height, np.arange(width) * across // width
    return rows[:, None] * (int(columns[-1]) + 1) + columns


def _cells(height: int, width: int, count: Any) -> tuple[int, int]:
    """Return rows and columns of a grid of so many cells, as square as can be."""
    if isinstance(count, tuple):
        down, across = _pair("count", count)
        if down > height or across > width:
            raise InputError(f"a grid of {down} rows and {across} columns is finer than {height}x{width} pixels")
        return down, across
    whole = _whole("count", count)
    down = min(max(round((whole * height / width) ** 0.5), 1), height)
    return down, min(max(round(whole / down), 1), width)


def _pair(name: str, values: tuple[Any, ...]) -> tuple[int, int]:
    if len(values) != 2:
        raise InputError(f"{name} is one number, or one for the height and one for the width; got {values!r}")
    return _whole(name, values[0]), _whole(name, values[1])


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise InputError(f"{name} is a whole number of at least 1; got {value!r}")
    return int(value)


def _superpixels(image: Floats, count: Any) -> Integers:
    whole = COUNT if count is None else _whole("count", count)
    try:
        from skimage.segmentation import slic
    except ImportError as error:
        raise InputError(
            "superpixels need scikit-image: pip install 'crp-kit[regions]', or use regions='grid'"
        ) from error
    return _numbered(slic(image, n_segments=whole, start_label=0, channel_axis=-1))
