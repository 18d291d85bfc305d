"""Image files as upright pictures, in RGB or in grey."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError

from ..errors import CrpKitWarning, InputError
from ..files import check_file

__all__ = ["in_channels", "open_image", "picture_of_bytes", "warn_of_rotation"]


def open_image(path: str | Path, *, channels: int = 3) -> Image.Image:
    """Return an image file as an upright picture: RGB, or grey for one channel.

    A rotation noted by a camera is carried out, and what is transparent lies on white. In RGB, grey becomes colour and
    16 bits become 8; in grey, 16 bits become floats in [0, 1] (Pillow's mode F), so that nothing is lost.

    Raises
    ------
    InputError
        If there is no such file, it is a pipe or a device, or it is no image that Pillow can read.
    """
    path = Path(path)
    check_file(path, "image")
    try:
        with Image.open(path) as file:
            file.load()
            image = ImageOps.exif_transpose(file)
    except UnidentifiedImageError as error:
        advice = "save it as .png or .jpg" if path.stat().st_size else "the file is empty"
        raise InputError(f"{str(path)!r} is no image that Pillow can read; {advice}") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"the image {str(path)!r} is too large: {error} Make it smaller, or crop it") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"the image {str(path)!r} cannot be read: {error}; copy or save it again") from error
    return in_channels(image, channels, f"the image {str(path)!r}")


def picture_of_bytes(image: npt.NDArray[np.uint8]) -> Image.Image:
    """Return the picture whose bytes an array has: (height, width, channel) of grey, RGB or RGBA, or (height, width).

    Raises
    ------
    InputError
        If it has another shape, or no value.
    """
    single = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
    if not image.size or not (single.ndim == 2 or (single.ndim == 3 and single.shape[2] in (3, 4))):
        raise InputError(
            f"an array of bytes (uint8) is a photo, (height, width, channel) with 1, 3 or 4 channels; got shape "
            f"{image.shape}; what the model is to see as it is, is a tensor (channel, height, width)"
        )
    return Image.fromarray(single)


def warn_of_rotation(image: Any) -> None:
    """Warn of a photo as ``PIL.Image.open`` returned it, if its camera noted a rotation that is not carried out."""
    if isinstance(image, ImageFile.ImageFile) and image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        warnings.warn(
            "the photo is not upright: its camera noted a rotation, which PIL.Image.open does not carry out; give the "
            "name of the file, or PIL.ImageOps.exif_transpose(photo)",
            CrpKitWarning,
            stacklevel=2,
        )


def in_channels(image: Image.Image, channels: int, name: str) -> Image.Image:
    """Return a picture as RGB for three channels, or in grey for one."""
    if channels not in (1, 3):
        raise InputError(f"{name} has one channel or three, and the model takes {channels}: give it .npy files")
    if image.mode.startswith("I") or image.mode == "F":
        deep = _deep(image, name)
        if channels == 1:
            return Image.fromarray(deep.astype(np.float32))
        return Image.fromarray((deep * 255).round().astype(np.uint8)).convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        upper = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", upper.size, "white"), upper)
    return image.convert("L" if channels == 1 else "RGB")


def _deep(image: Image.Image, name: str) -> npt.NDArray[np.float64]:
    """Return a picture of 16-bit integers, or of floats in [0, 1], as values in [0, 1]."""
    values = np.asarray(image).astype(np.float64)
    highest = 1.0 if image.mode == "F" else 65535.0
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > highest:
        kind = "floats in [0, 1]" if image.mode == "F" else "integers of 16 bits"
        raise InputError(f"{name} has values that are not {kind}; convert it to 8 bits")
    return values / highest
