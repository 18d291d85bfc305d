"""Attributes of samples that a dataset knows: its own ``attributes``, and the folder of each image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Subset

from ..errors import InputError
from ..escapes import one_line
from .dataset_names import is_of_folders, sample_names

__all__ = ["sample_attributes"]

FOLDER = "folder"
"""Attribute with the folder below the root of a dataset of folders."""


def sample_attributes(dataset: Any, index: Sequence[int]) -> dict[str, list[Any]]:
    """Return what a dataset knows of some of its samples beside labels, by name: a value for each.

    Parameters
    ----------
    dataset : map-style dataset
        Its `attributes`, if it has any, are by name a sequence with one value for each of its samples, or a function
        from the number of a sample to its value. A dataset of folders has ``"folder"`` as well.
    index : sequence of int
        Numbers of the samples.

    Raises
    ------
    InputError
        If there are not as many values as samples, or a function fails.
    """
    attributes = {FOLDER: folders} if (folders := _folders(dataset, index)) else {}
    return {**attributes, **{str(name): values for name, values in _own(dataset, index)}}


def _folders(dataset: Any, index: Sequence[int]) -> list[str | None] | None:
    """Return the first folder of the path of each sample below the root, if any has one."""
    names = sample_names(dataset, len(dataset)) if is_of_folders(dataset) else None
    if names is None:
        return None
    parts = (names[number].partition("/") for number in index)
    folders = [first if rest else None for first, _, rest in parts]
    return folders if any(folders) else None


def _own(dataset: Any, index: Sequence[int]) -> Iterator[tuple[str, list[Any]]]:
    """Yield the attributes of a dataset, or of that which it is a part of."""
    if isinstance(dataset, Subset):
        inside = [dataset.indices[number] for number in index]
        yield from sample_attributes(dataset.dataset, inside).items()
        return
    attributes = getattr(dataset, "attributes", None)
    if isinstance(attributes, Mapping):
        for name, source in attributes.items():
            yield name, _values(str(name), source, len(dataset), index)


def _values(name: str, source: Any, count: int, index: Sequence[int]) -> list[Any]:
    if callable(source):
        return [_called(name, source, number) for number in index]
    array = hasattr(source, "__array__")
    if not array and (isinstance(source, str) or not isinstance(source, Sequence)):
        raise InputError(
            f"the attribute {name!r} of the data is a sequence with a value for each sample, or a function from the "
            f"number of a sample to its value; got {type(source).__name__}"
        )
    values: Any = np.asarray(source) if array else source
    if array and values.ndim != 1:
        raise InputError(f"the attribute {name!r} of the data has the shape {values.shape}; it is (sample,)")
    if len(values) != count:
        raise InputError(f"the attribute {name!r} of the data has {len(values)} values for {count} samples")
    return list(values[list(index)].tolist()) if array else [values[number] for number in index]


def _called(name: str, function: Any, number: int) -> Any:
    try:
        return function(int(number))
    except Exception as error:
        raise InputError(
            f"the attribute {name!r} of the data fails for sample {number}: {type(error).__name__}: "
            f"{one_line(str(error))}"
        ) from error
