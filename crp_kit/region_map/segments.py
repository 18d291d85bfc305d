"""Segmentation of inputs: a grid, single values, superpixels, stretches of a signal, or labels from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import torch

from ..checks import check_integer
from ..errors import InputError
from .change_points import change_points

__all__ = ["COUNT", "STRETCHES", "Integers", "Regions", "Segmentation", "segment"]

Integers: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Segmentation: TypeAlias = Literal["grid", "pixels", "slic", "changes"]
Regions: TypeAlias = Segmentation | torch.Tensor | npt.NDArray[Any]

COUNT = 64
"""Regions of a grid, and superpixels, by default."""
STRETCHES = 16
"""Stretches of a signal, by default."""
_AXES = {1: "time", 2: "height, width", 3: "depth, height, width"}


def segment(
    regions: Regions,
    image: Floats,
    *,
    count: int | tuple[int, ...] | None = None,
    cell: int | tuple[int, ...] | None = None,
) -> Integers:
    """Return the region that each pixel belongs to: (height, width), numbered from 0 without gaps.

    Signals, (time, channel), are cut into stretches, and volumes, (depth, height, width, channel), into boxes.

    Parameters
    ----------
    regions : {"grid", "pixels", "slic", "changes"} or array
        Rectangles, equal stretches or boxes; every value for itself; superpixels of images and volumes by SLIC
        (Achanta et al., IEEE TPAMI 34, 2012), which need scikit-image; stretches of a signal between the changes of its
        level (`crp_kit.region_map.change_points.change_points`); or labels, whole numbers of the shape of the input
        without channels, which are numbered anew in their own order.
    image : array
        (height, width, channel), values in [0, 1]; or (*place, channel).
    count : int or tuple of int, optional
        About how many regions a grid, SLIC or changes make; for a grid also how many along each axis.
    cell : int or tuple of int, optional
        Side length of a grid's cells in pixels, or their length along each axis, instead of `count`.

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
    >>> segment("changes", np.array([[0.0], [0.1], [5.0], [5.1], [5.0]]), count=2)
    array([0, 0, 1, 1, 1])
    """
    shape = image.shape[:-1]
    if not isinstance(regions, str):
        _refuse(count=count, cell=cell, of="labels that are given")
        return _numbered(_labels(regions, shape))
    if regions not in get_args(Segmentation):
        raise InputError(
            f"regions is 'grid', 'pixels', 'slic' or labels ({_AXES[len(shape)]}); got {regions!r}"
            + (", or 'changes' for a signal" if len(shape) == 1 else "")
        )
    if regions == "pixels":
        _refuse(count=count, cell=cell, of="single pixels")
        return np.arange(math.prod(shape)).reshape(shape)
    if regions == "slic":
        _refuse(cell=cell, of="superpixels")
        return _superpixels(image, count)
    if regions == "changes":
        _refuse(cell=cell, of="changes")
        if len(shape) != 1:
            raise InputError(f"changes are those of a signal (time,); of ({_AXES[len(shape)]}) take 'grid' or 'slic'")
        return change_points(image, STRETCHES if count is None else check_integer("count", count, low=1))
    return _grid(shape, count, cell)


def _refuse(*, of: str, **options: Any) -> None:
    named = [name for name, value in options.items() if value is not None]
    if named:
        raise InputError(f"{named[0]} is for {'a grid' if named[0] == 'cell' else 'a grid or slic'}, not for {of}")


def _labels(regions: Any, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return labels that were given, checked."""
    array = regions.detach().cpu().numpy() if isinstance(regions, torch.Tensor) else np.asarray(regions)
    if array.dtype.kind not in "iu" or array.shape != shape:
        raise InputError(
            f"labels are whole numbers ({_AXES[len(shape)]}), here {shape}; got shape {array.shape} of {array.dtype}"
        )
    return array


def _numbered(labels: npt.NDArray[Any]) -> Integers:
    """Return labels without gaps, in their own order."""
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.int64)


def _grid(shape: tuple[int, ...], count: Any, cell: Any) -> Integers:
    """Return the cells of a grid of any number of axes: (*place)."""
    if count is not None and cell is not None:
        raise InputError("count and cell both say how fine the grid is; give one of them")
    if cell is not None:
        sides = _each("cell", cell if isinstance(cell, tuple) else (cell,) * len(shape), len(shape))
        along = [np.arange(size) // side for size, side in zip(shape, sides, strict=True)]
    else:
        cells = _cells(shape, (STRETCHES if len(shape) == 1 else COUNT) if count is None else count)
        along = [np.arange(size) * number // size for size, number in zip(shape, cells, strict=True)]
    labels = np.zeros(shape, dtype=np.int64)
    for axis, numbers in enumerate(along):
        broadcast = [-1 if other == axis else 1 for other in range(len(shape))]
        labels = labels * (int(numbers[-1]) + 1) + numbers.reshape(broadcast)
    return labels


def _cells(shape: tuple[int, ...], count: Any) -> tuple[int, ...]:
    """Return the cells along each axis of a grid of so many, as nearly equal in their sides as can be."""
    if isinstance(count, tuple):
        numbers = _each("count", count, len(shape))
        if any(number > size for number, size in zip(numbers, shape, strict=True)):
            raise InputError(f"a grid of {_words(numbers)} is finer than {'x'.join(map(str, shape))} pixels")
        return numbers
    left, numbers = float(check_integer("count", count, low=1)), ()
    for axis, size in enumerate(shape):
        rest = math.prod(shape[axis:])
        last = axis == len(shape) - 1
        number = min(max(round(left if last else size * (left / rest) ** (1 / (len(shape) - axis))), 1), size)
        numbers, left = (*numbers, number), left / number
    return numbers


def _words(numbers: Sequence[int]) -> str:
    """Say how many cells there are along each axis."""
    return (
        f"{numbers[0]} rows and {numbers[1]} columns" if len(numbers) == 2 else f"{'x'.join(map(str, numbers))} cells"
    )


def _each(name: str, values: tuple[Any, ...], axes: int) -> tuple[int, ...]:
    if len(values) != axes:
        each = "one for the height and one for the width" if axes == 2 else f"one for each of ({_AXES[axes]})"
        raise InputError(f"{name} is one number, or {each}; got {values!r}")
    return tuple(check_integer(name, value, low=1) for value in values)


def _superpixels(image: Floats, count: Any) -> Integers:
    whole = COUNT if count is None else check_integer("count", count, low=1)
    if image.ndim == 2:
        raise InputError("superpixels are of images and volumes; a signal is cut by 'grid' or 'changes'")
    try:
        from skimage.segmentation import slic
    except ImportError as error:
        raise InputError(
            "superpixels need scikit-image: pip install 'crp-kit[regions]', or use regions='grid'"
        ) from error
    return _numbered(slic(image, n_segments=whole, start_label=0, channel_axis=-1))
