"""Photographs that installed packages carry: of scikit-image, scikit-learn and matplotlib."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image

from ..errors import InputError
from .image_files import open_image
from .preprocess import Preprocess

__all__ = ["Photographs"]

_OF_SKIMAGE = (
    "chelsea.png coffee.png rocket.jpg astronaut.png camera.png coins.png motorcycle_left.png motorcycle_right.png "
    "hubble_deep_field.jpg moon.png brick.png grass.png gravel.png clock_motion.png page.png text.png retina.jpg "
    "ihc.png cell.png"
).split()
_SOURCES = (
    ("skimage.data", "", _OF_SKIMAGE),
    ("sklearn.datasets", "images", ["china.jpg", "flower.jpg"]),
    ("matplotlib", "mpl-data/sample_data", ["grace_hopper.jpg"]),
)
"""Module, folder in it, and files."""
_CORNERS = {"whole": None, "top-left": (0, 0), "top-right": (1, 0), "bottom-left": (0, 1), "bottom-right": (1, 1)}
_PART = 0.7
"""Share of either side that a view of a corner has."""


class Photographs:
    """Five views of each photograph: the whole, and its corners. They have no labels.

    Parameters
    ----------
    preprocess : Preprocess
        Of the model, which resizes the views.

    Raises
    ------
    InputError
        If scikit-image is not installed.

    Examples
    --------
    >>> photographs = Photographs(Preprocess(64, 64))
    >>> photographs.names[0], tuple(photographs[0][0].shape)
    ('chelsea', (3, 64, 64))
    """

    root = Path("photographs")
    spec = "demo:photos"

    def __init__(self, preprocess: Preprocess) -> None:
        self.preprocess = preprocess
        self.files = tuple(_files())
        self.samples = [(self.root / name / view, None) for name in self.names for view in _CORNERS]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the photographs, in the order of the samples, of which each has five."""
        return tuple(path.stem for path in self.files)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, None]:
        path, _ = self.samples[index]
        picture = open_image(self.files[index // len(_CORNERS)], channels=self.preprocess.channels)
        return self.preprocess.view(_view(picture, _CORNERS[path.name])), None

    def whole(self, name: str) -> torch.Tensor:
        """Return a photograph as the model sees it, values in [0, 1]: (channel, height, width)."""
        return self[self.names.index(name) * len(_CORNERS)][0]


def _view(picture: Image.Image, corner: tuple[int, int] | None) -> Image.Image:
    if corner is None:
        return picture
    width, height = (round(_PART * side) for side in picture.size)
    left, top = (picture.width - width) * corner[0], (picture.height - height) * corner[1]
    return picture.crop((left, top, left + width, top + height))


def _files() -> Iterator[Path]:
    """Yield the files that are there."""
    for source, folder, names in _SOURCES:
        try:
            module = importlib.import_module(source)
        except ImportError as error:
            if source == "skimage.data":
                raise InputError(
                    "demo:photos needs scikit-image, which is not installed: pip install 'crp-kit[photos]'"
                ) from error
            continue
        paths = (Path(str(module.__file__)).parent / folder / name for name in names)
        yield from (path for path in paths if path.is_file())
