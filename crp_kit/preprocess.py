"""Image files as model inputs: read, turned upright, resized, cropped, normalised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as geometry

from .errors import InputError

__all__ = ["ImageBatch", "Preprocess", "load_images", "open_image"]

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes a model input: resized, cropped, scaled to [0, 1], normalised.

    Parameters
    ----------
    resize : int or None
        Length in pixels that the shorter side gets; ``None`` leaves the size as it is.
    crop : int or tuple of int or None
        Height and width cut out of the middle; ``None`` keeps everything.
    mean, std : tuple of float
        By channel.
    interpolation : str
        As in ``torchvision.transforms.InterpolationMode``.

    Examples
    --------
    >>> preprocess = Preprocess()
    >>> tuple(preprocess(Image.new("RGB", (640, 480))).shape)
    (3, 224, 224)
    """

    resize: int | None = 256
    crop: int | tuple[int, int] | None = 224
    mean: tuple[float, ...] = _IMAGENET_MEAN
    std: tuple[float, ...] = _IMAGENET_STD
    interpolation: str = "bilinear"

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Return the model input: channel, height, width."""
        return self.normalise(self.view(image))

    def view(self, image: Image.Image) -> torch.Tensor:
        """Return what the model sees of an image, values in [0, 1]: channel, height, width."""
        if self.resize is not None:
            image = geometry.resize(image, [self.resize], InterpolationMode(self.interpolation), antialias=True)
        if self.crop is not None:
            image = geometry.center_crop(image, [self.crop] if isinstance(self.crop, int) else list(self.crop))
        scaled: torch.Tensor = geometry.to_tensor(image)
        return scaled

    def normalise(self, views: torch.Tensor) -> torch.Tensor:
        """Return values in [0, 1] (…, channel, height, width) shifted and scaled by channel."""
        mean, std = (views.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return (views - mean) / std

    @property
    def low(self) -> torch.Tensor:
        """Lowest value that a model input can have: (1, channel, 1, 1)."""
        return self.normalise(torch.zeros(1, len(self.mean), 1, 1))

    @property
    def high(self) -> torch.Tensor:
        """Highest value that a model input can have: (1, channel, 1, 1)."""
        return self.normalise(torch.ones(1, len(self.mean), 1, 1))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width that every input has; where images keep their own, a size that fits the model."""
        if self.crop is not None:
            return (self.crop, self.crop) if isinstance(self.crop, int) else self.crop
        return (self.resize, self.resize) if self.resize is not None else (224, 224)


@dataclass(frozen=True, eq=False)
class ImageBatch:
    """Images as a model sees them.

    Parameters
    ----------
    views : torch.Tensor
        Before normalisation, values in [0, 1]: image, channel, height, width.
    inputs : torch.Tensor
        Normalised: image, channel, height, width.
    paths : tuple of Path
    """

    views: torch.Tensor
    inputs: torch.Tensor
    paths: tuple[Path, ...]


def load_images(paths: Sequence[str | Path], preprocess: Preprocess | None = None) -> ImageBatch:
    """Return image files as one batch of model inputs.

    Parameters
    ----------
    paths : sequence of str or Path
    preprocess : Preprocess, optional
        The model's; ImageNet's by default.

    Raises
    ------
    InputError
        If there is no path, a file cannot be read as an image, or the model keeps the images' own sizes and these
        differ.
    """
    if not paths:
        raise InputError("no image to load")
    preprocess = preprocess or Preprocess()
    views = [preprocess.view(open_image(path)) for path in paths]
    for path, view in zip(paths, views, strict=True):
        if view.shape != views[0].shape:
            raise InputError(
                f"this model keeps the shape of an image, and a batch needs one shape: {paths[0]} gives "
                f"{_size(views[0])} and {path} gives {_size(view)} pixels; load them one by one"
            )
    batch = torch.stack(views)
    return ImageBatch(batch, preprocess.normalise(batch), tuple(map(Path, paths)))


def _size(view: torch.Tensor) -> str:
    return f"{view.shape[2]}x{view.shape[1]}"


def open_image(path: str | Path) -> Image.Image:
    """Return an image file as an upright RGB picture.

    A rotation noted by a camera is carried out, grey becomes RGB, 16 bits become 8, and what is transparent lies on
    white.

    Raises
    ------
    InputError
        If there is no such file or it is no image that Pillow can read.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{str(path)!r} is a folder; name the images in it")
    try:
        with Image.open(path) as file:
            file.load()
            image = ImageOps.exif_transpose(file)
    except FileNotFoundError as error:
        raise InputError(f"no image file {str(path)!r}") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{str(path)!r} is no image that Pillow can read") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"the image {str(path)!r} cannot be read: {error}") from error
    return _as_rgb(image, path)


def _as_rgb(image: Image.Image, path: Path) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _deep_as_rgb(image, path)
    if "A" in image.getbands() or "transparency" in image.info:
        upper = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", upper.size, "white"), upper).convert("RGB")
    return image.convert("RGB")


def _deep_as_rgb(image: Image.Image, path: Path) -> Image.Image:
    """Return a picture of 16-bit integers, or of floats in [0, 1], as RGB."""
    values = np.asarray(image).astype(np.float64)
    highest = 1.0 if image.mode == "F" else 65535.0
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > highest:
        kind = "floats in [0, 1]" if image.mode == "F" else "integers of 16 bits"
        raise InputError(f"the image {str(path)!r} has values that are not {kind}; convert it to 8 bits")
    return Image.fromarray((values / highest * 255).round().astype(np.uint8)).convert("RGB")
