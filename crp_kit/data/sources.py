"""Datasets by name: what the texts for data mean."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from ..errors import InputError
from ..factories import make, near
from ..preprocess import Preprocess, open_image
from .shapes import ShapesDataset

__all__ = ["ImageFiles", "load_dataset"]

_FORMS = "imagefolder:DIR, torchvision:NAME:ROOT, demo:shapes, package.module:factory or file.py:factory"
_SCHEMES = ("imagefolder", "torchvision", "demo")
_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
_DEMO_SAMPLES = 2000
_SPLITS = ("test", "val", "valid")


class ImageFiles(Dataset[tuple[torch.Tensor, int | None]]):
    """The images of a folder, with a class for each folder in it; or without classes, where it has no folders.

    Classes are numbered in the order of their names, as in ``torchvision.datasets.ImageFolder``: they have to be the
    model's outputs in that order. For images without classes relevance starts from predictions.

    Parameters
    ----------
    root : str or Path
    preprocess : Preprocess
        What makes a tensor of a picture: resized, cropped, values in [0, 1].

    Attributes
    ----------
    samples : list of (str, int or None)
        Path and class of every image, in the order of classes and names.
    classes : list of str

    Raises
    ------
    InputError
        If there is no such folder, or no image in it.
    """

    def __init__(self, root: str | Path, preprocess: Preprocess) -> None:
        self.root, self.preprocess = Path(root), preprocess
        if not self.root.is_dir():
            raise InputError(f"no folder {str(root)!r}")
        self.classes = sorted(one.name for one in self.root.iterdir() if one.is_dir() and not one.name.startswith("."))
        self.samples: list[tuple[str, int | None]] = []
        for number, name in enumerate(self.classes):
            self.samples += [(str(path), number) for path in _images(self.root / name, deep=True)]
        if not self.classes:
            self.samples = [(str(path), None) for path in _images(self.root, deep=False)]
        if not self.samples:
            raise InputError(f"no image in {str(root)!r}, nor in folders in it; looked for {', '.join(_SUFFIXES)}")

    def __repr__(self) -> str:
        return f"ImageFiles({str(self.root)!r}, {len(self)} images, {len(self.classes)} classes)"

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int | None]:
        """Give one sample: image (channel, height, width) with values in [0, 1], and class."""
        path, label = self.samples[index]
        return self.preprocess.view(open_image(path)), label


def _images(folder: Path, *, deep: bool) -> list[Path]:
    found = folder.rglob("*") if deep else folder.iterdir()
    return sorted(one for one in found if one.suffix.lower() in _SUFFIXES and not one.name.startswith("."))


def load_dataset(spec: str, preprocess: Preprocess | None = None) -> Any:
    """Return the map-style dataset that a text names; its images are not normalised.

    Parameters
    ----------
    spec : str
        ``imagefolder:DIR``, a folder with a folder for each class; ``torchvision:NAME:ROOT`` or
        ``torchvision:NAME:ROOT:SPLIT``, a dataset of torchvision that lies there already; ``demo:shapes``,
        ``demo:shapes:N`` or ``demo:shapes:N:train``, the built-in images; ``package.module:factory`` or
        ``file.py:factory``, a function without arguments that returns a dataset.
    preprocess : Preprocess, optional
        The model's, for image files; ImageNet's by default.

    Raises
    ------
    InputError
        If the text means nothing, there is no such folder or dataset, or a factory makes no map-style dataset.
    ModelError
        If a factory fails.

    Examples
    --------
    >>> load_dataset("demo:shapes:100")
    ShapesDataset(100, seed=0, split='test')
    """
    scheme, colon, rest = spec.partition(":")
    if not colon or not rest:
        raise InputError(f"data is named {_FORMS}; got {spec!r}")
    if scheme == "imagefolder":
        return ImageFiles(rest, preprocess or Preprocess())
    if scheme == "torchvision":
        return _torchvision(spec, rest)
    if scheme == "demo":
        return _demo(spec, rest)
    made = make(spec, forms=f"data is named {_FORMS}", schemes=_SCHEMES)
    if not hasattr(made, "__getitem__") or not hasattr(made, "__len__"):
        raise InputError(
            f"{spec} has to return a map-style dataset, with len() and an index; it returned {type(made).__name__}"
        )
    return made


def _demo(spec: str, rest: str) -> ShapesDataset:
    name, _, more = rest.partition(":")
    count, _, split = more.partition(":")
    if name != "shapes" or (count and not count.isdigit()) or (split and split not in ("train", "test")):
        raise InputError(f"the built-in data is demo:shapes, demo:shapes:N or demo:shapes:N:train; got {spec!r}")
    if count and int(count) < 1:
        raise InputError(f"{spec!r} has no sample; at least 1")
    return ShapesDataset(int(count or _DEMO_SAMPLES), split=split or "test")


def _torchvision(spec: str, rest: str) -> Any:
    from torchvision import datasets

    name, colon, place = rest.partition(":")
    root, _, split = place.partition(":")
    known = [one for one in datasets.__all__ if inspect.isclass(getattr(datasets, one))]
    if not colon or not root:
        raise InputError(f"a dataset of torchvision is named torchvision:NAME:ROOT; got {spec!r}")
    if name not in known:
        hint = near(name, known, "torchvision.datasets.__all__ lists them")
        raise InputError(f"torchvision has no dataset named {name!r}; {hint}")
    kind = getattr(datasets, name)
    reason: Exception | None = None
    for options in _split_options(inspect.signature(kind).parameters, split):
        try:
            return kind(root, **options)
        except (RuntimeError, ValueError, TypeError, OSError) as error:
            reason = reason or error
    raise InputError(
        f"{spec} cannot be opened: {str(reason).splitlines()[0]}. The files have to lie in {root!r} already: crp-kit "
        f"downloads no data"
    ) from reason


def _split_options(parameters: Mapping[str, Any], split: str) -> list[dict[str, Any]]:
    """Return the ways to ask for a part of a dataset, to be tried in turn: by default for one that tests."""
    several = next((name for name in ("split", "image_set") if name in parameters), None)
    options: dict[str, Any] = {"train": split == "train"} if "train" in parameters else {}
    if several is None:
        return [options]
    return [{**options, several: one} for one in ([split] if split else _SPLITS)]
