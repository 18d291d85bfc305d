"""Datasets by spec, such as ``imagefolder:DIR`` or ``file.py:factory``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from torch.utils.data import IterableDataset

from ..errors import InputError, ModelError
from ..factory_spec import call_factory
from .class_map_file import ClassMap, as_class_map
from .dataset_names import class_names, inner_dataset
from .folder_mistakes import as_folder
from .folders import ArrayFiles, ImageFiles
from .photographs import Photographs
from .preprocess import Preprocess
from .shapes import ShapesDataset, Variant
from .torchvision_data import torchvision_dataset

__all__ = ["load_data"]

_FORMS = "imagefolder:DIR, torchvision:NAME:ROOT, npyfolder:DIR, demo:shapes, package.module:factory or file.py:factory"
_SCHEMES = ("imagefolder", "npyfolder", "torchvision", "demo")
_DEMO_SAMPLES = 2000


def load_data(spec: str, preprocess: Preprocess | None = None, class_map: ClassMap | None = None) -> Any:
    """Return the map-style dataset of a spec; its images are not normalised.

    Parameters
    ----------
    spec : str
        ``imagefolder:DIR``, a folder with a folder for each class, or of images without classes; ``npyfolder:DIR``, the
        same of arrays in ``.npy`` files, such as signals and volumes;
        ``torchvision:NAME:ROOT`` or ``torchvision:NAME:ROOT:SPLIT``, a dataset of torchvision whose files are there
        already, by default the part for testing or validation; ``demo:shapes``, ``demo:shapes:N`` or
        ``demo:shapes:N:train``, the built-in images, 2000 of the test part by default, and so ``demo:shapes-tag`` and
        ``demo:shapes-tag-any``, their variants with a planted fault; ``demo:photos``, photographs that packages carry
        (the extra ``photos``); ``package.module:factory`` or ``file.py:factory``, a function without arguments that
        returns a map-style dataset.
    preprocess : Preprocess, optional
        The model's, for files of the first three forms; ImageNet's by default.
    class_map : dict, str or Path, optional
        The model's classes by the names of the dataset's, such as folders, as numbers or names; or a file with them.

    Returns
    -------
    map-style dataset
        Gives (image, label); images are float32 (channel, height, width) with values in [0, 1], arrays of `.npy` files
        (channel, …) in their own units. The label is ``None`` where there are no classes.

    Raises
    ------
    InputError
        If the spec has another form, there is no such folder or dataset, files of a dataset are missing, a factory
        fails or makes no map-style dataset, or a class map has another form or there is nothing that it could map.

    Examples
    --------
    >>> load_data("demo:shapes:100")
    ShapesDataset(100, seed=0, split='test')
    """
    if not isinstance(spec, str):
        raise InputError(f"data is named {_FORMS}; got {type(spec).__name__}, and a Study takes a dataset as it is")
    if not isinstance(preprocess, Preprocess | None):
        raise InputError(f"preprocess is a crp_kit.Preprocess, such as that of a loaded model; got {preprocess!r:.60}")
    dataset = _opened(spec, preprocess or Preprocess())
    if class_map is not None:
        if not class_names(dataset):
            raise InputError(f"a class map is for data whose classes have names, such as folders; {spec} has none")
        inner_dataset(dataset).class_map = as_class_map(class_map)
    return dataset


def _opened(spec: str, preprocess: Preprocess) -> Any:
    """Return the dataset of a spec."""
    scheme, _, rest = spec.partition(":")
    meant = None if scheme in _SCHEMES else as_folder(spec)
    if meant:
        raise InputError(meant)
    if not rest:
        raise InputError(f"data is named {_FORMS}; got {spec!r}")
    if scheme == "imagefolder":
        return ImageFiles(rest, preprocess)
    if scheme == "npyfolder":
        return ArrayFiles(rest, preprocess)
    if scheme == "torchvision":
        return torchvision_dataset(spec, preprocess)
    if scheme == "demo":
        return Photographs(preprocess) if rest == "photos" else _demo(spec, rest)
    try:
        dataset = call_factory(spec, forms=f"data is named {_FORMS}", schemes=_SCHEMES)
    except ModelError as error:
        raise InputError(str(error)) from error
    _check_map_style(spec, dataset)
    return dataset


def _check_map_style(spec: str, dataset: Any) -> None:
    name, wanted = type(dataset).__name__, "a map-style dataset, with len() and an index"
    if isinstance(dataset, Mapping):
        parts = ", ".join(map(str, dataset)) or "nothing"
        raise InputError(f"{spec} has to return {wanted}; it returned {name} of {parts}: return one of its datasets")
    if isinstance(dataset, IterableDataset):
        raise InputError(
            f"{spec} has to return {wanted}, since samples are numbered; it returned the IterableDataset {name}"
        )
    indexed = hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
    if isinstance(dataset, (str, bytes, tuple, type)) or not indexed:
        raise InputError(f"{spec} has to return {wanted}; it returned {name}")


def _demo(spec: str, rest: str) -> ShapesDataset:
    match = re.fullmatch(r"shapes(?:-(tag|tag-any))?(?::([0-9]+))?(?::(train|test))?", rest)
    if match is None:
        raise InputError(
            f"the built-in data is demo:shapes, demo:shapes:N or demo:shapes:N:train, demo:shapes-tag and "
            f"demo:shapes-tag-any likewise, or demo:photos; got {spec!r}"
        )
    count = int(match[2] or _DEMO_SAMPLES)
    if count < 1:
        raise InputError(f"{spec!r} has no sample; at least 1")
    return ShapesDataset(count, split=match[3] or "test", variant=cast("Variant | None", match[1]))
