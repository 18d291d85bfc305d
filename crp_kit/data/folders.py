"""Datasets of files in folders: a folder for each class, or samples without classes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.utils.data import Dataset

from ..errors import CrpKitWarning, InputError
from .class_map_file import ClassMap, as_class_map
from .folder_mistakes import content_words, no_folder, other_images
from .preprocess import Preprocess

__all__ = ["ArrayFiles", "ImageFiles"]

_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
_PARTS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})


class ImageFiles(Dataset[tuple[torch.Tensor, int | None]]):
    """The images of a folder, with a class for each folder in it; or without classes, where no folder has any.

    Labels are positions of folders in the order of their names, and samples are in the order of
    ``torchvision.datasets.ImageFolder``. An atlas counts a folder under the class of the model that has its name, its
    number or its WordNet id, never under that at its position, unless the model's names are not known and it has as
    many outputs as there are folders. For images without classes relevance starts from predictions.

    Parameters
    ----------
    root : str or Path
    preprocess : Preprocess
        The model's: pictures are resized and cropped, values in [0, 1]; in grey where it has one channel.
    class_map : dict, str or Path, optional
        The model's classes by the names of folders, as numbers or names; or a file with them, CSV or JSON.

    Attributes
    ----------
    samples : list of (str, int or None)
        Path and class of every image.
    classes : list of str
        The names of the folders.
    class_map : dict or None
    root : Path

    Raises
    ------
    InputError
        If there is no such folder, it cannot be read, no image is in it, or the folders in it are the parts of a
        dataset, such as ``train``; or a class map has another form.
    """

    classes_are_folders = True
    scheme, noun = "imagefolder", "image"
    suffixes: tuple[str, ...] = _SUFFIXES

    def __init__(self, root: str | Path, preprocess: Preprocess, class_map: ClassMap | None = None) -> None:
        self.root, self.preprocess = Path(root).expanduser(), preprocess
        self.class_map = None if class_map is None else as_class_map(class_map)
        if not self.root.is_dir():
            raise InputError(no_folder(str(root), self.scheme))
        try:
            folders = self._class_folders()
            found = [(path, number) for number, name in enumerate(folders) for path in _files(self.root / name)]
            labelled = [(path, number) for path, number in found if self._is_sample(path)]
            every = [path for path, _ in found] if labelled else _files(self.root)
        except OSError as error:
            raise InputError(f"cannot read the folder {error.filename!r}: {error.strerror or error}") from error
        self.classes = folders if labelled else []
        alone = [] if labelled else [path for path in every if self._is_sample(path)]
        self.samples: list[tuple[str, int | None]] = [*labelled] or [(path, None) for path in alone]
        if not self.samples:
            raise InputError(
                f"no {self.noun} in {str(root)!r}, nor in folders in it; {content_words(every)}; looked for "
                f"{', '.join(self.suffixes)}"
            )
        others = other_images(every)
        if others:
            warnings.warn(f"of {str(root)!r} {others} are left out", CrpKitWarning, stacklevel=2)
        nested = all(Path(path).parent.parent != self.root for path, _ in labelled)
        if labelled and nested and _PARTS.issuperset(folders):
            raise InputError(
                f"the folders in {str(root)!r} are parts of a dataset, not classes: {', '.join(folders)}; name one of "
                f"them, such as {self.scheme}:{self.root / folders[-1]}"
            )

    @property
    def spec(self) -> str:
        """The spec by which `crp_kit.load_data` finds the folder."""
        return f"{self.scheme}:{self.root}"

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"{name}({str(self.root)!r}, {len(self)} {self.noun}s, {len(self.classes)} classes)"

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int | None]:
        """Return one sample: image (channel, height, width) with values in [0, 1], and class.

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
        folders = [path for path in self.root.iterdir() if path.is_dir() and not path.name.startswith(".")]
        return sorted(path.name for path in folders if not whole.is_relative_to(path.resolve()))

    def _is_sample(self, path: str) -> bool:
        """Return whether a file is a sample by its name."""
        name = os.path.basename(path).lower()
        return name.endswith(self.suffixes) and not name.startswith(".")


class ArrayFiles(ImageFiles):
    """The ``.npy`` files of a folder, one sample each, with a class for each folder in it, as for `ImageFiles`.

    Samples are arrays as the model takes them, before normalisation, such as (channel, time); see
    `crp_kit.Preprocess`.
    """

    scheme, noun = "npyfolder", "array"
    suffixes = (".npy",)


def _files(folder: Path) -> list[str]:
    """Return the paths of all files in a folder and the folders in it, links followed."""
    return [str(Path(parent, name)) for parent, names in sorted(_walk(folder)) for name in names]


def _walk(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield a folder and the folders in it, links followed, with the names of their files; no folder inside itself."""
    inside = {str(folder): frozenset([folder.resolve(), folder.parent.resolve()])}
    for parent, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
        chain, here = inside.pop(parent), Path(parent).resolve()
        reached = {name: Path(parent, name).resolve() for name in folders}
        folders[:] = [name for name in folders if reached[name] not in chain and not here.is_relative_to(reached[name])]
        inside |= {os.path.join(parent, name): chain | {reached[name]} for name in folders}
        yield parent, sorted(names)


def _raise(error: OSError) -> None:
    raise error
