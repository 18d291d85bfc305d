"""Datasets by name: what the texts for data mean."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset

from ..errors import InputError, ModelError
from ..factory_spec import make, near
from .preprocess import Preprocess
from .shapes import ShapesDataset

__all__ = ["ArrayFiles", "ImageFiles", "load_dataset"]

_FORMS = "imagefolder:DIR, torchvision:NAME:ROOT, npyfolder:DIR, demo:shapes, package.module:factory or file.py:factory"
_SCHEMES = ("imagefolder", "npyfolder", "torchvision", "demo")
_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
_DEMO_SAMPLES = 2000
_TESTING = ("test", "val", "valid")
_PARTS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})


class ImageFiles(Dataset[tuple[torch.Tensor, int | None]]):
    """The images of a folder, with a class for each folder in it; or without classes, where no folder has any.

    Classes are numbered in the order of their names and samples in the order of ``torchvision.datasets.ImageFolder``.
    No number is ever mapped to another, whether folders bear names, WordNet ids or anything else: they have to be the
    model's outputs in that order. For images without classes relevance starts from predictions.

    Parameters
    ----------
    root : str or Path
    preprocess : Preprocess
        What makes a tensor of a picture: resized, cropped, values in [0, 1]; in grey where it has one channel.

    Attributes
    ----------
    samples : list of (str, int or None)
        Path and class of every image.
    classes : list of str
    root : Path

    Raises
    ------
    InputError
        If there is no such folder, it cannot be read, no image is in it, or the folders in it are the parts of a
        dataset, such as ``train``.
    """

    scheme, noun = "imagefolder", "image"
    suffixes: tuple[str, ...] = _SUFFIXES

    def __init__(self, root: str | Path, preprocess: Preprocess) -> None:
        self.root, self.preprocess = Path(root).expanduser(), preprocess
        if not self.root.is_dir():
            raise InputError(f"no folder {str(root)!r}" + (": it is a file" if self.root.exists() else ""))
        try:
            folders = self._class_folders()
            labelled = [(path, number) for number, name in enumerate(folders) for path in self._files(self.root / name)]
            alone = [] if labelled else self._files(self.root)
        except OSError as error:
            raise InputError(f"cannot read the folder {error.filename!r}: {error.strerror or error}") from error
        self.classes = folders if labelled else []
        self.samples: list[tuple[str, int | None]] = [*labelled] or [(path, None) for path in alone]
        if not self.samples:
            raise InputError(
                f"no {self.noun} in {str(root)!r}, nor in folders in it; looked for {', '.join(self.suffixes)}"
            )
        nested = all(Path(path).parent.parent != self.root for path, _ in labelled)
        if labelled and nested and _PARTS.issuperset(folders):
            raise InputError(
                f"the folders in {str(root)!r} are parts of a dataset, not classes: {', '.join(folders)}; name one of "
                f"them, such as {self.scheme}:{self.root / folders[-1]}"
            )

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"{name}({str(self.root)!r}, {len(self)} {self.noun}s, {len(self.classes)} classes)"

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int | None]:
        """Give one sample: image (channel, height, width) with values in [0, 1], and class.

        Raises
        ------
        InputError
            If its file cannot be read as an image.
        """
        path, label = self.samples[index]
        return self.preprocess.read(path), label

    def _class_folders(self) -> list[str]:
        """Return the names of the folders in the root, without links to it or to what it is in."""
        whole = self.root.resolve()
        folders = [one for one in self.root.iterdir() if one.is_dir() and not one.name.startswith(".")]
        return sorted(one.name for one in folders if not whole.is_relative_to(one.resolve()))

    def _files(self, folder: Path) -> list[str]:
        """Return the paths of all samples in a folder and the folders in it, links followed."""
        return [
            str(Path(place, name))
            for place, names in sorted(_walk(folder))
            for name in names
            if name.lower().endswith(self.suffixes) and not name.startswith(".")
        ]


class ArrayFiles(ImageFiles):
    """The ``.npy`` files of a folder, one sample each, with a class for each folder in it, as for `ImageFiles`.

    Samples are arrays as the model takes them, before normalisation, such as (channel, time); see
    `crp_kit.models.Preprocess`.
    """

    scheme, noun = "npyfolder", "array"
    suffixes = (".npy",)


def _walk(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield a folder and the folders in it, links followed, with the names of their files; no folder inside itself."""
    inside = {str(folder): frozenset([folder.resolve(), folder.parent.resolve()])}
    for place, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
        chain, here = inside.pop(place), Path(place).resolve()
        reached = {name: Path(place, name).resolve() for name in folders}
        folders[:] = [name for name in folders if reached[name] not in chain and not here.is_relative_to(reached[name])]
        inside |= {os.path.join(place, name): chain | {reached[name]} for name in folders}
        yield place, sorted(names)


def _raise(error: OSError) -> None:
    raise error


@dataclass(frozen=True)
class _View:
    """What a model sees of a picture: in colour, or in grey where the model takes one channel."""

    preprocess: Preprocess

    def __call__(self, picture: Any) -> Any:
        if not isinstance(picture, Image.Image):
            return picture
        return self.preprocess.view(picture)


def load_dataset(spec: str, preprocess: Preprocess | None = None) -> Any:
    """Return the map-style dataset that a text names; its images are not normalised.

    Parameters
    ----------
    spec : str
        ``imagefolder:DIR``, a folder with a folder for each class, or of images without classes; ``npyfolder:DIR``, the
        same of arrays in ``.npy`` files, such as signals and volumes;
        ``torchvision:NAME:ROOT`` or ``torchvision:NAME:ROOT:SPLIT``, a dataset of torchvision that lies there already,
        by default the part for testing or validation; ``demo:shapes``, ``demo:shapes:N`` or ``demo:shapes:N:train``,
        the built-in images, 2000 of the test part by default; ``package.module:factory`` or ``file.py:factory``, a
        function without arguments that returns a map-style dataset.
    preprocess : Preprocess, optional
        The model's, for files of the first three forms; ImageNet's by default.

    Raises
    ------
    InputError
        If the text means nothing, there is no such folder or dataset, files of a dataset are missing, or a factory
        fails or makes no map-style dataset.

    Examples
    --------
    >>> load_dataset("demo:shapes:100")
    ShapesDataset(100, seed=0, split='test')
    """
    scheme, _, rest = spec.partition(":")
    if not rest:
        raise InputError(f"data is named {_FORMS}; got {spec!r}")
    if scheme == "imagefolder":
        return ImageFiles(rest, preprocess or Preprocess())
    if scheme == "npyfolder":
        return ArrayFiles(rest, preprocess or Preprocess())
    if scheme == "torchvision":
        return _torchvision(spec, rest, preprocess or Preprocess())
    if scheme == "demo":
        return _demo(spec, rest)
    try:
        made = make(spec, forms=f"data is named {_FORMS}", schemes=_SCHEMES)
    except ModelError as error:
        raise InputError(str(error)) from error
    _check_map_style(spec, made)
    return made


def _check_map_style(spec: str, made: Any) -> None:
    kind, wanted = type(made).__name__, "a map-style dataset, with len() and an index"
    if isinstance(made, Mapping):
        parts = ", ".join(map(str, made)) or "nothing"
        raise InputError(f"{spec} has to return {wanted}; it returned {kind} of {parts}: return one of its datasets")
    if isinstance(made, IterableDataset):
        raise InputError(
            f"{spec} has to return {wanted}, since samples are numbered; it returned the IterableDataset {kind}"
        )
    if isinstance(made, (str, bytes, tuple, type)) or not hasattr(made, "__getitem__") or not hasattr(made, "__len__"):
        raise InputError(f"{spec} has to return {wanted}; it returned {kind}")


def _demo(spec: str, rest: str) -> ShapesDataset:
    found = re.fullmatch(r"shapes(?::([0-9]+))?(?::(train|test))?", rest)
    if found is None:
        raise InputError(f"the built-in data is demo:shapes, demo:shapes:N or demo:shapes:N:train; got {spec!r}")
    count = int(found[1] or _DEMO_SAMPLES)
    if count < 1:
        raise InputError(f"{spec!r} has no sample; at least 1")
    return ShapesDataset(count, split=found[2] or "test")


def _torchvision(spec: str, rest: str, preprocess: Preprocess) -> Any:
    name, _, place = rest.partition(":")
    kind = _torchvision_class(spec, name)
    root, split = _root_and_split(place)
    if not root:
        raise InputError(f"a dataset of torchvision is named torchvision:NAME:ROOT; got {spec!r}")
    if not Path(root).expanduser().is_dir():
        raise InputError(f"no folder {root!r}, where the files of torchvision's {name} would lie")
    parameters = inspect.signature(kind).parameters
    fixed: dict[str, Any] = {"download": False} if "download" in parameters else {}
    if "transform" in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        fixed["transform"] = _View(preprocess)
    unknown: Exception | None = None
    for options in _splits(spec, parameters, split):
        try:
            return kind(root, **fixed, **options)
        except Exception as error:
            if not _is_about_a_word(error):
                call = ", ".join([repr(root), *(f"{one}={value!r}" for one, value in options.items())])
                fetch = f"torchvision.datasets.{name}({call}, download=True)" if "download" in parameters else ""
                raise InputError(_missing(spec, root, error, fetch=fetch)) from error
            unknown = error
    what = f"has no part {split!r}" if split else f"needs a word for the part, {spec}:SPLIT"
    raise InputError(f"torchvision's {name} {what}: {_reason(unknown)}") from unknown


def _torchvision_class(spec: str, name: str) -> type:
    from torchvision import datasets

    every: dict[str, Any] = {one: getattr(datasets, one) for one in datasets.__all__}
    known: dict[str, type] = {
        one: kind for one, kind in every.items() if inspect.isclass(kind) and "root" in _needed(kind)
    }
    if name not in known:
        hint = near(name, list(known), "torchvision.datasets.__all__ lists them")
        raise InputError(f"torchvision has no dataset named {name!r} that lies in a folder; {hint}")
    more = [one for one in _needed(known[name]) if one not in ("root", "split")]
    if more:
        raise InputError(
            f"torchvision's {name} needs more than a folder ({', '.join(more)}): write a function that returns it, and "
            f"name that as file.py:function instead of {spec!r}"
        )
    return known[name]


def _needed(kind: type) -> list[str]:
    """Return the names of the arguments without which a dataset cannot be made."""
    parameters = inspect.signature(kind).parameters
    return [
        name
        for name, one in parameters.items()
        if one.default is one.empty and one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)
    ]


def _root_and_split(place: str) -> tuple[str, str]:
    """Return the two parts of ROOT:SPLIT; a folder may have a colon in its name, or a drive before it."""
    root, colon, split = place.rpartition(":")
    return (root, split) if colon and re.fullmatch(r"[\w-]+", split) else (place, "")


def _splits(spec: str, parameters: Mapping[str, Any], split: str) -> Iterator[dict[str, Any]]:
    """Yield the ways to ask for a part of a dataset, to be tried in turn: by default for one that tests."""
    several = next((name for name in ("split", "image_set") if name in parameters), None)
    whole: dict[str, Any] = {"train": split == "train"} if "train" in parameters else {}
    if several is not None:
        yield from ({**whole, several: one} for one in ([split] if split else _TESTING))
    elif split and (not whole or split not in ("train", *_TESTING)):
        parts = "has the parts train and test" if whole else "cannot be asked for a part"
        raise InputError(f"{spec.removesuffix(f':{split}')} {parts}; got {split!r}")
    else:
        yield whole


def _is_about_a_word(error: Exception) -> bool:
    return isinstance(error, ValueError) and "Unknown value" in str(error)


def _missing(spec: str, root: str, error: Exception, *, fetch: str) -> str:
    """Return what to say of a dataset whose files cannot be opened; `fetch` is the call that downloads them."""
    if isinstance(error, ImportError):
        return f"{spec} needs {error.name!r}, which is not installed"
    hint = f", but {fetch} does" if fetch else ""
    return f"{spec} cannot be opened: {_reason(error)}. Its files have to lie in {root!r}: crp-kit downloads none{hint}"


def _reason(error: Exception | None) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0].replace(" You can use download=True to download it", "").rstrip(". ")
