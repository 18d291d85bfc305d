"""Preprocessing of a model, changed in what a caller knows better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..data.preprocess import Preprocess
from ..errors import InputError

__all__ = ["adjusted"]


def adjusted(
    preprocess: Preprocess,
    *,
    size: Sequence[int] | None = None,
    crop: Sequence[int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    channels: int | None = None,
) -> Preprocess:
    """Return a preprocessing with other sizes, normalisation or channels.

    Parameters
    ----------
    preprocess : Preprocess
    size : sequence of int, optional
        Of an image, the length that its shorter side gets, or height and width, whatever the proportions; of a signal
        or volume, (time,) or (depth, height, width). An image is then cut to this size, unless `crop` says another.
    crop : sequence of int, optional
        Side length, or height and width, cut out of the middle.
    mean, std : sequence of float, optional
        A number for each channel, or one for all.
    channels : int, optional
        Of the model's input. If it is not what `preprocess` has, values stay in [0, 1] without `mean` and `std`.

    Raises
    ------
    InputError
        If sizes have more or fewer axes, or the numbers are not one for each channel.

    Examples
    --------
    >>> adjusted(Preprocess(), size=[64], channels=1).zeros().shape
    torch.Size([1, 1, 64, 64])
    """
    changed: dict[str, Any] = {}
    if preprocess.shape is not None and crop is not None:
        raise InputError("crop is for images; signals and volumes are not cropped")
    if size is not None:
        _check_axes(preprocess, size)
        sides: Any = size[0] if len(size) == 1 else tuple(size)
        changed |= {"shape": tuple(size)} if preprocess.shape is not None else {"resize": sides, "crop": sides}
    if crop is not None:
        changed["crop"] = crop[0] if len(crop) == 1 else tuple(crop)
    count = channels or max(preprocess.channels, len(mean or ()), len(std or ()))
    for name, numbers, usual in (("mean", mean, 0.0), ("std", std, 1.0)):
        own = getattr(preprocess, name)
        values = (own if len(own) == count else (usual,)) if numbers is None else tuple(numbers)
        changed[name] = values * count if len(values) == 1 else values
        if len(changed[name]) != count:
            raise InputError(f"{name} has a number for each of {count} channels, or one for all; got {len(values)}")
    return replace(preprocess, **changed)


def _check_axes(preprocess: Preprocess, size: Sequence[int]) -> None:
    if len(size) not in ({1, 2} if preprocess.shape is None else {preprocess.axes}):
        example = {1: "1000", 2: "224 or 480x640", 3: "16x224x224"}[preprocess.axes]
        raise InputError(f"size is written like {example}; got {'x'.join(map(str, size))!r}")
