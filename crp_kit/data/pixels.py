"""Images of any form as pictures, and values of any range as values in [0, 1]."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from ..errors import InputError

__all__ = ["drawable", "finite", "picture", "plane", "refuse_file_name", "stretched"]

Floats: TypeAlias = npt.NDArray[np.float64]


def picture(image: Any) -> Image.Image:
    """Return an image as an RGB picture.

    Parameters
    ----------
    image : PIL image, torch.Tensor or array
        A tensor or array is (channel, height, width), (height, width, channel) or (height, width), with one or three
        channels; floats in [0, 1] or uint8.

    Raises
    ------
    InputError
        If it is none of these, is empty, or has floats outside of [0, 1], as a normalised model input does.
    """
    refuse_file_name(image)
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    array = _array(image)
    if array.ndim == 3 and array.shape[0] in (1, 3):
        array = array.transpose(1, 2, 0)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3) or not array.size:
        raise InputError(f"an image has one or three channels: (channel, height, width); got shape {array.shape}")
    if array.dtype != np.uint8:
        array = finite(array)
        # Resizing with antialiasing may overshoot by a rounding error.
        if array.min() < -1e-3 or array.max() > 1 + 1e-3:
            raise InputError(
                f"image values lie in [0, 1] (or are uint8); got {array.min():.4g} to {array.max():.4g}. "
                f"Give the image before normalisation"
            )
        array = (np.clip(array, 0, 1) * 255).round().astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3))))


def refuse_file_name(image: Any) -> None:
    """Make sure that an image is not the name of its file.

    Raises
    ------
    InputError
        If it is.
    """
    if isinstance(image, (str, Path)):
        name = str(image)
        raise InputError(f"{name!r} is the name of a file, and a picture is needed: give PIL.Image.open({name!r})")


def drawable(view: torch.Tensor) -> torch.Tensor | None:
    """Return what a model sees of an image as a picture, values in [0, 1] (channel, height, width); None for others.

    Values outside of [0, 1] are stretched over it, and of channels that are neither one nor three the mean is shown.
    """
    if view.ndim != 3:
        return None
    view = view if len(view) in (1, 3) else view.mean(0, keepdim=True)
    inside = float(view.min()) >= 0 and float(view.max()) <= 1
    return view if inside else torch.from_numpy(stretched(view))


def stretched(values: Any) -> Floats:
    """Return values of any range, scaled to [0, 1] from their lowest to their highest; all 0 where they are equal.

    Raises
    ------
    InputError
        If a value is not finite, or there is none.

    Examples
    --------
    >>> stretched([-1000.0, 0.0, 1000.0]).tolist()
    [0.0, 0.5, 1.0]
    """
    array = finite(values)
    if not array.size:
        raise InputError(f"there is no value to show; got shape {array.shape}")
    low, high = float(array.min()), float(array.max())
    scaled: Floats = (array - low) / ((high - low) or 1.0)
    return scaled


def finite(values: Any) -> Floats:
    """Return values as float64, if all are finite."""
    array = _array(values).astype(np.float64)
    wrong = int((~np.isfinite(array)).sum())
    if wrong:
        raise InputError(f"{wrong} of {array.size} values are infinite or not-a-number and cannot be drawn")
    return array


def plane(heatmap: Any) -> Floats:
    """Return one heatmap as (height, width), if it is one and all its values are finite."""
    array = finite(heatmap)
    if array.ndim != 2 or not array.size:
        hint = "; choose one row, such as heatmap[0]" if array.ndim == 3 else ""
        raise InputError(f"a heatmap is (height, width) with at least one value; got shape {array.shape}{hint}")
    return array


def _array(values: Any) -> npt.NDArray[Any]:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = values.double() if values.is_floating_point() else values
        return np.asarray(values.numpy())
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise InputError(f"expected a tensor or an array of real numbers; got {type(values).__name__} of {array.dtype}")
    return array
