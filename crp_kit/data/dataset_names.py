"""Names that datasets give their samples and classes, as a file can keep them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import ConcatDataset, Subset
from torchvision.datasets import DatasetFolder

from ..checks import is_integer
from ..escapes import escaped

__all__ = [
    "class_names",
    "inner_dataset",
    "is_of_folders",
    "sample_files",
    "sample_labels",
    "sample_names",
]

_LABEL_KEYS = ("label", "labels", "target", "targets")


def inner_dataset(dataset: Any) -> Any:
    """Return the dataset whose labels a dataset gives: the one in a `torch.utils.data.Subset`, or in equal parts."""
    while isinstance(dataset, (Subset, ConcatDataset)):
        if isinstance(dataset, ConcatDataset):
            inner = [inner_dataset(part) for part in dataset.datasets]
            if len({class_names(part) for part in inner}) > 1:
                return dataset
            dataset = inner[0]
        else:
            dataset = dataset.dataset
    return dataset


def is_of_folders(dataset: Any) -> bool:
    """Return whether a dataset numbers its classes by the order of folders, which is no order of a model's."""
    inner = inner_dataset(dataset)
    return isinstance(inner, DatasetFolder) or bool(getattr(inner, "classes_are_folders", False))


def class_names(dataset: Any) -> tuple[str, ...]:
    """Return the names of the classes that a dataset has, by label, if it has any."""
    inner = inner_dataset(dataset)
    names = getattr(inner, "classes", None)
    if names is None:  # of Hugging Face
        features = getattr(inner, "features", None)
        columns = [features[key] for key in _LABEL_KEYS if key in features] if isinstance(features, dict) else []
        names = next((column.names for column in columns if hasattr(column, "names")), None)
    if not isinstance(names, (Sequence, np.ndarray)) or isinstance(names, (str, bytes)):
        return ()
    return tuple(escaped(", ".join(map(_text, name)) if isinstance(name, tuple) else _text(name)) for name in names)


def sample_files(dataset: Any, count: int) -> list[Path] | None:
    """Return the file of every sample, as the dataset lists it, or ``None`` where it lists none."""
    kept = (_entries(dataset, name) for name in ("samples", "imgs"))
    files = next(
        (
            entries
            for entries in kept
            if entries is not None and len(entries) == count and all(map(_is_file_entry, entries))
        ),
        (),
    )
    return [Path(_text(entries[0])) for entries in files] or None


def _entries(dataset: Any, name: str) -> Sequence[Any] | None:
    """Return a list of a dataset by its name, if it is one."""
    entries = getattr(dataset, name, None)
    if isinstance(entries, np.ndarray) and entries.ndim > 0:
        return list(entries)
    return entries if isinstance(entries, Sequence) else None


def sample_labels(dataset: Any) -> list[int] | None:
    """Return the label of every sample of `inner_dataset`, where it lists them without reading any."""
    inner = inner_dataset(dataset)
    entries = _entries(inner, "samples")
    if entries is None or not is_of_folders(dataset) or getattr(inner, "target_transform", None) is not None:
        return None
    if not all(_is_file_entry(entry) and len(entry) > 1 and _is_label(entry[1]) for entry in entries):
        return None
    return [int(entry[1]) for entry in entries if entry[1] is not None]


def sample_names(dataset: Any, count: int) -> list[str] | None:
    """Return a name for every sample, its path below the root of the dataset, or ``None`` where it has no files."""
    files = sample_files(dataset, count)
    if files is None:
        return None
    root = Path(str(getattr(dataset, "root", "")))
    return [escaped(_relative(path, root)) for path in files]


def _is_file_entry(entry: Any) -> bool:
    listed = isinstance(entry, (tuple, list, np.ndarray)) and len(entry) > 0
    return listed and isinstance(entry[0], (str, bytes, os.PathLike))


def _is_label(label: Any) -> bool:
    """Return whether a label that a dataset lists beside a file is one number, or none."""
    return label is None or is_integer(label)


def _text(name: Any) -> str:
    """Return a name as text; bytes as those of a file name."""
    return os.fsdecode(name) if isinstance(name, (bytes, os.PathLike)) else str(name)


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
