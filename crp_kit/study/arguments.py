"""Arguments of studies that are often given as something else: refused with what to give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from ..errors import InputError

__all__ = ["check_atlas_argument", "check_data", "check_preprocess"]


def check_data(data: Any) -> None:
    """Make sure that data is neither the name of a dataset nor a loader of one.

    Raises
    ------
    InputError
        If it is.
    """
    if isinstance(data, (str, Path)):
        spec = str(data) if ":" in str(data) else f"imagefolder:{data}"
        raise InputError(f"data is a dataset of (image, label), not its name: give crp_kit.load_data({spec!r})")
    if isinstance(data, DataLoader):
        raise InputError("data is a dataset, whose samples have numbers, not a DataLoader: give its .dataset")


def check_preprocess(preprocess: Any) -> None:
    """Make sure that a preprocessing can be called.

    Raises
    ------
    InputError
        If it cannot.
    """
    if preprocess is not None and not callable(preprocess):
        raise InputError(
            f"preprocess is a crp_kit.Preprocess, or a function of a batch of images; got {preprocess!r:.60}"
        )


def check_atlas_argument(atlas: Any) -> None:
    """Make sure that an atlas is open, not the name of its file.

    Raises
    ------
    InputError
        If it is.
    """
    if isinstance(atlas, (str, Path)):
        raise InputError(
            f"atlas is an open concept atlas, not the name of its file: crp_kit.ConceptAtlas({str(atlas)!r})"
        )
