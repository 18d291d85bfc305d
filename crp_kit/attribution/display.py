"""Display of results: images as the model saw them, and words for classes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..data.pixels import picture
from ..data.preprocess import Preprocess
from ..errors import CrpKitWarning, InputError
from ..targets.text import target_words

__all__ = ["Display", "compare_names"]


def compare_names(prediction: torch.Tensor, classes: Sequence[str]) -> None:
    """Warn where a classifier, with predictions (row, class), has another number of outputs than there are names."""
    if classes and prediction.ndim == 2 and prediction.shape[1] != len(classes):
        warnings.warn(
            f"the model has {prediction.shape[1]} outputs, and {len(classes)} classes are named, so that names may "
            f"stand for other classes: name each output",
            CrpKitWarning,
            stacklevel=2,
        )


@dataclass(frozen=True)
class Display:
    """What a study knows of the pictures of its results.

    Parameters
    ----------
    geometry : Preprocess or None
        Resizes and crops photos as for the model; None where images are given as the model sees them.
    classes : tuple of str
        Names of the classes; empty where none are known.
    """

    geometry: Preprocess | None = None
    classes: tuple[str, ...] = ()

    def view(self, image: Any, size: tuple[int, ...] | None = None) -> Image.Image:
        """Return an image as the model saw it.

        Parameters
        ----------
        image : PIL image, path, torch.Tensor or array
            A photo of any size, (height, width, channel) where it is an array; or what the model saw, before
            normalisation: (channel, height, width), or of `size` where its values are no bytes (uint8).
        size : tuple of int, optional
            Height and width that the model saw, if known.

        Raises
        ------
        InputError
            If it is no image, or there is no geometry to bring it to the size.
        """
        geometry = self.geometry
        pixels = picture(image) if geometry is None or geometry.axes != 2 else _seen(image, size, geometry)
        if size is not None and pixels.size[::-1] != size:
            height, width = size
            raise InputError(
                f"the image is {pixels.width}x{pixels.height} pixels and the model saw {width}x{height}: give it "
                f"resized and cropped, or make the study with a crp_kit.models.Preprocess, which does so"
            )
        return pixels

    def views(self, images: Any, size: tuple[int, ...]) -> list[Image.Image]:
        """Return one image, or a sequence or batch of them, as the model saw them."""
        rows = isinstance(images, (torch.Tensor, np.ndarray)) and images.ndim == 4
        if rows or (isinstance(images, Sequence) and not isinstance(images, str)):
            return [self.view(image, size) for image in images]
        return [self.view(images, size)]

    def target_words(self, targets: Sequence[Any]) -> str:
        """Return classes by name, in targets too, and other ids of the output as they are written."""
        return ", ".join(target_words(target, self.classes) for target in targets)


def _seen(image: Any, size: tuple[int, ...] | None, geometry: Preprocess) -> Image.Image:
    """Return an image as the model saw it: a photo resized and cropped, anything else as it is."""
    if isinstance(image, (str, Path)):
        return picture(geometry.read(image))
    channels_last = np.ndim(image) == 3 and np.shape(image)[-1] in (1, 3, 4) and np.shape(image)[0] not in (1, 3)
    is_bytes = isinstance(image, np.ndarray) and image.dtype == np.uint8 and (channels_last or image.ndim == 2)
    if isinstance(image, Image.Image) or is_bytes:
        return picture(geometry.view(image))
    pixels = picture(image)
    is_photo = channels_last if size is None else pixels.size[::-1] != size
    return picture(geometry.view(pixels)) if is_photo else pixels
