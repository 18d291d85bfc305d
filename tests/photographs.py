"""Photographs that come with scikit-image and scikit-learn, as the EfficientNet-Lite networks take them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import skimage.data
from PIL import Image, ImageDraw
from sklearn.datasets import load_sample_image

from crp_kit.data.image_files import open_image
from crp_kit.data.preprocess import Preprocess

EGYPTIAN_CAT = 285
_UPPER = ((40, 66), (60, 56), (94, 62), (130, 74), (166, 82), (192, 76), (206, 96), (198, 120))
_LOWER = ((188, 150), (184, 186), (162, 206), (120, 206), (66, 194), (60, 160), (72, 130), (44, 106))
CHELSEA_FACE = (*_UPPER, *_LOWER)
"""Eyes, nose and muzzle of `chelsea`, drawn by hand: corners (x, y) in pixels of a view of 224 pixels."""


def lite_preprocess(size: int = 224) -> Preprocess:
    """Return TensorFlow's preprocessing of the Lite networks, (value - 127) / 128 for values up to 255."""
    return Preprocess(size, size, mean=(127 / 255,) * 3, std=(128 / 255,) * 3, interpolation="bicubic")


def chelsea() -> Image.Image:
    """Return the portrait of a cat."""
    return Image.fromarray(skimage.data.chelsea())


def photographs() -> list[Image.Image]:
    """Return every photograph of things that ImageNet has classes for, in colours or in grey."""
    folder = Path(skimage.data.__file__).parent
    names = ("chelsea.png", "astronaut.png", "camera.png", "coffee.png", "coins.png", "motorcycle_left.png")
    own = [open_image(folder / name) for name in (*names, "rocket.jpg")]
    return [*own, *(Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg"))]


def polygon_mask(corners: Sequence[tuple[int, int]], size: int) -> npt.NDArray[np.bool_]:
    """Return whether each pixel (row, column) is inside a polygon of corners (x, y)."""
    canvas = Image.new("1", (size, size))
    ImageDraw.Draw(canvas).polygon(list(corners), fill=1)
    return np.array(canvas)
