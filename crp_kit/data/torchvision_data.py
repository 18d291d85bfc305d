"""Datasets of torchvision that are on disk already; nothing is downloaded."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import InputError
from ..factory_spec import suggestion
from .preprocess import Preprocess

__all__ = ["torchvision_dataset"]

_TESTING = ("test", "val", "valid")


@dataclass(frozen=True)
class _View:
    """The transform of a dataset: what the model sees of a picture, before normalisation."""

    preprocess: Preprocess

    def __call__(self, picture: Any) -> Any:
        if not isinstance(picture, Image.Image):
            return picture
        return self.preprocess.view(picture)


def torchvision_dataset(spec: str, preprocess: Preprocess) -> Any:
    """Return the dataset of a spec ``torchvision:NAME:ROOT`` or ``torchvision:NAME:ROOT:SPLIT``.

    Raises
    ------
    InputError
        If there is no such dataset or folder, files are missing, or the dataset has no such part.
    """
    name, _, location = spec.removeprefix("torchvision:").partition(":")
    dataset_class = _dataset_class(spec, name)
    root, split = _root_and_split(location)
    if not root:
        raise InputError(f"a dataset of torchvision is named torchvision:NAME:ROOT; got {spec!r}")
    if not Path(root).expanduser().is_dir():
        raise InputError(f"no folder {root!r}, where the files of torchvision's {name} would lie")
    parameters = inspect.signature(dataset_class).parameters
    fixed: dict[str, Any] = {"download": False} if "download" in parameters else {}
    if "transform" in parameters or any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        fixed["transform"] = _View(preprocess)
    unknown: Exception | None = None
    for options in _splits(spec, parameters, split):
        try:
            return dataset_class(root, **fixed, **options)
        except Exception as error:
            if not _is_unknown_part(error):
                call = ", ".join([repr(root), *(f"{option}={value!r}" for option, value in options.items())])
                fetch = f"torchvision.datasets.{name}({call}, download=True)" if "download" in parameters else ""
                raise InputError(_missing(spec, root, error, fetch=fetch)) from error
            unknown = error
    problem = f"has no part {split!r}" if split else f"needs the name of a part, {spec}:SPLIT"
    raise InputError(f"torchvision's {name} {problem}: {_reason(unknown)}") from unknown


def _dataset_class(spec: str, name: str) -> type:
    from torchvision import datasets

    exported: dict[str, Any] = {key: getattr(datasets, key) for key in datasets.__all__}
    known: dict[str, type] = {
        key: value for key, value in exported.items() if inspect.isclass(value) and "root" in _required(value)
    }
    if name not in known:
        hint = suggestion(name, list(known), "torchvision.datasets.__all__ lists them")
        raise InputError(f"torchvision has no dataset named {name!r} that lies in a folder; {hint}")
    more = [argument for argument in _required(known[name]) if argument not in ("root", "split")]
    if more:
        raise InputError(
            f"torchvision's {name} needs more than a folder ({', '.join(more)}): write a function that returns it, and "
            f"name that as file.py:function instead of {spec!r}"
        )
    return known[name]


def _required(dataset_class: type) -> list[str]:
    """Return the names of the arguments without a default."""
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return [
        name
        for name, parameter in inspect.signature(dataset_class).parameters.items()
        if parameter.default is parameter.empty and parameter.kind not in variable
    ]


def _root_and_split(location: str) -> tuple[str, str]:
    """Return the two parts of ROOT:SPLIT; a folder may have a colon in its name, or a drive before it."""
    root, colon, split = location.rpartition(":")
    return (root, split) if colon and re.fullmatch(r"[\w-]+", split) else (location, "")


def _splits(spec: str, parameters: Mapping[str, Any], split: str) -> Iterator[dict[str, Any]]:
    """Yield the ways to ask for a part of a dataset, to be tried in turn: by default for one that tests."""
    option = next((name for name in ("split", "image_set") if name in parameters), None)
    whole: dict[str, Any] = {"train": split == "train"} if "train" in parameters else {}
    if option is not None:
        yield from ({**whole, option: part} for part in ([split] if split else _TESTING))
    elif split and (not whole or split not in ("train", *_TESTING)):
        parts = "has the parts train and test" if whole else "cannot be asked for a part"
        raise InputError(f"{spec.removesuffix(f':{split}')} {parts}; got {split!r}")
    else:
        yield whole


def _is_unknown_part(error: Exception) -> bool:
    return isinstance(error, ValueError) and "Unknown value" in str(error)


def _missing(spec: str, root: str, error: Exception, *, fetch: str) -> str:
    """Return the message about a dataset whose files cannot be opened; `fetch` is the call that downloads them."""
    if isinstance(error, ImportError):
        return f"{spec} needs {error.name!r}, which is not installed"
    hint = f", but {fetch} does" if fetch else ""
    return f"{spec} cannot be opened: {_reason(error)}. Its files have to lie in {root!r}: crp-kit downloads none{hint}"


def _reason(error: Exception | None) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0].replace(" You can use download=True to download it", "").rstrip(". ")
