"""Files as model inputs: images turned upright, resized and cropped, or arrays of NumPy; normalised."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from operator import gt
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as geometry

from ..checks import is_integer
from ..errors import InputError
from ..files import check_file
from ..tables import shape_text
from .arrays import AXES, open_array
from .image_files import in_channels, open_image, picture_of_bytes

__all__ = ["Normalise", "Preprocess", "load_views", "preprocessing"]

Normalise = Callable[[torch.Tensor], torch.Tensor]
"""From images, as a dataset gives them, to model inputs: (sample, channel, height, width)."""

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocess:
    """How a file becomes a model input: images are resized, cropped, scaled to [0, 1], normalised.

    Parameters
    ----------
    resize : int, tuple of int or None
        Length in pixels that the shorter side gets; or height and width, whatever the proportions; ``None`` leaves the
        size as it is.
    crop : int or tuple of int or None
        Height and width cut out of the middle; ``None`` keeps everything.
    mean, std : tuple of float
        By channel. Their length is the number of channels: for one, images are opened in grey, with all of their bits.
    interpolation : str
        As in ``torchvision.transforms.InterpolationMode``.
    shape : tuple of int, optional
        For a model of signals or volumes, the axes that it was made for behind the channels: (time,), or (depth,
        height, width). Samples are then ``.npy`` files; these are normalised, but neither resized nor cropped.

    Raises
    ------
    InputError
        If `mean` and `std` differ in length, a value is out of range, or `crop` is larger than what `resize` makes.

    Examples
    --------
    >>> preprocess = Preprocess()
    >>> tuple(preprocess(Image.new("RGB", (640, 480))).shape)
    (3, 224, 224)
    >>> Preprocess(mean=(0.0,), std=(1.0,), shape=(1000,)).size
    (1000,)
    """

    resize: int | tuple[int, int] | None = 256
    crop: int | tuple[int, int] | None = 224
    mean: tuple[float, ...] = _IMAGENET_MEAN
    std: tuple[float, ...] = _IMAGENET_STD
    interpolation: str = "bilinear"
    shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            object.__setattr__(self, name, _numbers(name, getattr(self, name)))
        if len(self.mean) != len(self.std):
            raise InputError(
                f"mean and std have one number for each channel; got {len(self.mean)} and {len(self.std)} of them"
            )
        if min(self.std) <= 0:
            raise InputError(f"std is what channels are divided by, positive numbers; got {self.std}")
        if self.resize is not None:
            sides = _sizes(
                "resize", self.resize, "the length of the shorter side in pixels, or height and width", most=2
            )
            object.__setattr__(self, "resize", sides if isinstance(self.resize, Sequence) else sides[0])
        if self.crop is not None:
            sides = _sizes("crop", self.crop, "one side length in pixels, or height and width", most=2)
            object.__setattr__(self, "crop", sides if isinstance(self.crop, Sequence) else sides[0])
            self._check_crop()
        if self.shape is not None:
            shape = _sizes("shape", self.shape, "(time,) or (depth, height, width)", most=3)
            object.__setattr__(self, "shape", shape)
        if self.interpolation not in [mode.value for mode in InterpolationMode]:
            known = ", ".join(mode.value for mode in InterpolationMode)
            raise InputError(f"interpolation is one of {known}; got {self.interpolation!r}")

    def _check_crop(self) -> None:
        """Make sure that the crop is no larger than every resized image."""
        crop = [self.crop] * 2 if isinstance(self.crop, int) else list(self.crop or ())
        resize = [self.resize] * 2 if isinstance(self.resize, int) else list(self.resize or ())
        short = isinstance(self.resize, int)
        if crop and resize and (min(crop) > min(resize) if short else any(map(gt, crop, resize))):
            raise InputError(
                f"crop is cut out of what resize makes, {self.resize}, so it is no larger; got {self.crop}"
            )

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Return the model input of an image.

        Parameters
        ----------
        image : PIL.Image.Image
            Of any size and mode.

        Returns
        -------
        torch.Tensor
            Normalised: (channel, height, width).
        """
        return self.normalise(self.view(image))

    @property
    def channels(self) -> int:
        """Number of channels of a model input."""
        return len(self.mean)

    @property
    def axes(self) -> int:
        """Number of axes of a model input behind its channels: 2 for images."""
        return 2 if self.shape is None else len(self.shape)

    def read(self, path: str | Path) -> torch.Tensor:
        """Return what the model sees of a file, before normalisation.

        Parameters
        ----------
        path : str or Path
            An image, or an array in a ``.npy`` file.

        Returns
        -------
        torch.Tensor
            (channel, height, width) in [0, 1], or (channel, *place) in the array's own units.

        Raises
        ------
        InputError
            If the file cannot be read, or its shape or channels are not the model's.
        """
        if Path(path).suffix.lower() == ".npy":
            return open_array(path, channels=self.channels, axes=self.axes)
        if self.axes != 2 or self.channels not in (1, 3):
            check_file(Path(path), "sample")
            raise InputError(
                f"the model takes {AXES[self.axes]} with {self.channels} channel{'s' * (self.channels > 1)}, and "
                f"{str(path)!r} is no .npy file; write such an array with numpy.save"
            )
        return self.view(open_image(path, channels=self.channels))

    def _check_pixels(self, image: Image.Image) -> None:
        """Make sure that a resized image has no more pixels than Pillow opens: it would fill the memory."""
        width, height = image.size
        if isinstance(self.resize, int):
            scale = self.resize / min(width, height)
            width, height = math.ceil(scale * width), math.ceil(scale * height)
        elif self.resize is not None:
            height, width = self.resize
        if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
            raise InputError(
                f"an image of {image.width}x{image.height} pixels would be resized to {width}x{height}, more than the "
                f"{Image.MAX_IMAGE_PIXELS:,} pixels of PIL.Image.MAX_IMAGE_PIXELS: choose a smaller size, or crop it"
            )

    def view(self, image: Image.Image | npt.NDArray[np.uint8]) -> torch.Tensor:
        """Return what the model sees of an image.

        Parameters
        ----------
        image : PIL.Image.Image or array
            A picture of any size and mode; or its bytes (uint8), (height, width, channel) or (height, width). Bytes of
            other channels than those of grey, RGB and RGBA pictures keep their size.

        Returns
        -------
        torch.Tensor
            Values in [0, 1]: (channel, height, width).

        Raises
        ------
        InputError
            If `mean` is that of values from 0 to 255, it is no image, or it would have more pixels than Pillow opens.
        """
        if max(self.mean) > 1:
            raise InputError(
                f"mean and std are for pictures with values in [0, 1]; got mean {self.mean}: divide by 255"
            )
        if isinstance(image, np.ndarray):
            if self.axes != 2 or self.channels not in (1, 3):
                return torch.as_tensor(geometry.to_tensor(image))
            image = picture_of_bytes(image)
        image = in_channels(image, self.channels, "the image")
        if self.resize is not None:
            self._check_pixels(image)
            sides = [self.resize] if isinstance(self.resize, int) else list(self.resize)
            image = geometry.resize(image, sides, InterpolationMode(self.interpolation), antialias=True)
        if self.crop is not None:
            image = geometry.center_crop(image, [self.crop] if isinstance(self.crop, int) else list(self.crop))
        scaled: torch.Tensor = geometry.to_tensor(image)
        return scaled

    def normalise(self, views: torch.Tensor) -> torch.Tensor:
        """Return values shifted and scaled by channel.

        Parameters
        ----------
        views : torch.Tensor
            For images values in [0, 1]: (…, channel, *place).

        Returns
        -------
        torch.Tensor
            Of the same shape.

        Raises
        ------
        InputError
            If there are more or fewer channels than `mean` has numbers.
        """
        if views.ndim <= self.axes or views.shape[-1 - self.axes] != self.channels:
            last = views.ndim > self.axes and views.shape[-1] == self.channels
            advice = (
                "move channels to the front" if last else "give the Preprocess as many numbers as there are channels"
            )
            raise InputError(
                f"mean and std are for {AXES[self.axes]} with {self.channels} channel{'s' * (self.channels > 1)}; got "
                f"shape {tuple(views.shape)}: {advice}"
            )
        mean, std = (views.new_tensor(values).reshape(-1, *[1] * self.axes) for values in (self.mean, self.std))
        return (views - mean) / std

    @property
    def low(self) -> torch.Tensor:
        """Lowest value that a model input from [0, 1] can have: (1, channel, 1, 1), or as many ones as it has axes."""
        return self.normalise(torch.zeros(1, self.channels, *[1] * self.axes))

    @property
    def high(self) -> torch.Tensor:
        """Highest value that a model input from [0, 1] can have: as `low`."""
        return self.normalise(torch.ones(1, self.channels, *[1] * self.axes))

    @property
    def size(self) -> tuple[int, ...]:
        """`shape`, or the height and width that every image has; where these keep their own, some that fit it."""
        if self.shape is not None:
            return self.shape
        sides = self.resize if self.crop is None else self.crop
        if sides is None:
            return 224, 224
        return (sides, sides) if isinstance(sides, int) else sides

    def zeros(self, size: tuple[int, ...] | None = None) -> torch.Tensor:
        """Return an input of zeros.

        Parameters
        ----------
        size : tuple of int, optional
            The axes behind the channels; by default as images have them.

        Returns
        -------
        torch.Tensor
            (1, channel, height, width), or (1, channel, *place).
        """
        return torch.zeros(1, self.channels, *(size or self.size))


def load_views(paths: Sequence[str | Path], preprocess: Preprocess) -> torch.Tensor:
    """Return what the model sees of files, before normalisation: (sample, channel, height, width), or (…, *place).

    Raises
    ------
    InputError
        If there is no path, a file cannot be read, or the model keeps the samples' own sizes and these differ.
    """
    if not paths:
        raise InputError("no image to load")
    views = [preprocess.read(path) for path in paths]
    for path, view in zip(paths, views, strict=True):
        if view.shape != views[0].shape:
            unit = "pixels" if preprocess.axes == 2 else "values"
            raise InputError(
                f"this model keeps the shape of an image, and a batch needs one shape: {paths[0]} gives "
                f"{_size(views[0])} and {path} gives {_size(view)} {unit}; load them one by one"
            )
    return torch.stack(views)


def _size(view: torch.Tensor) -> str:
    sizes = view.shape[1:]
    return f"{sizes[1]}x{sizes[0]}" if len(sizes) == 2 else shape_text(sizes)


def _numbers(name: str, values: Any) -> tuple[float, ...]:
    """Return numbers by channel as a tuple, checked."""
    numbers = tuple(values) if isinstance(values, Sequence) and not isinstance(values, str) else ()
    if not numbers or not all(isinstance(value, Real) and math.isfinite(value) for value in numbers):
        raise InputError(f"{name} has a finite number for each channel, such as (0.5,) for grey; got {values!r:.60}")
    return numbers


def _sizes(name: str, value: Any, meaning: str, *, most: int = 1) -> tuple[int, ...]:
    """Return one size, or at most `most` of them, as a tuple: whole numbers of at least 1."""
    sizes = tuple(value) if isinstance(value, Sequence) else (value,)
    if not 1 <= len(sizes) <= most or not all(is_integer(size, 1) for size in sizes):
        raise InputError(f"{name} is {meaning}, whole numbers of at least 1; got {sizes!r:.60}")
    return tuple(map(int, sizes))


def preprocessing(preprocess: Preprocess | Normalise | None) -> tuple[Any, Normalise]:
    """Return what makes tensors of pictures, if anything does, and what makes model inputs of tensors."""
    if isinstance(preprocess, Preprocess):
        return preprocess.view, preprocess.normalise
    if preprocess is None:
        return None, lambda images: images
    if not callable(preprocess):
        raise InputError(f"preprocess is a function of a batch of images; got {type(preprocess).__name__}")
    return None, preprocess
