"""Datasets and attributes of HDF5 by h5py's lower functions, where a file has thousands of small ones.

``h5py.Dataset`` and ``h5py.AttributeManager`` make types, spaces, settings and proxies again for each dataset and each
part of it, which takes longer than what HDF5 itself does.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5p, h5s, h5t

from .file_tree import ArraySpec
from .header import Array

__all__ = ["NewDatasets", "attribute_at", "dataset_at", "read_part", "write_part"]


class NewDatasets:
    """Makes the datasets of a file, each type, space and settings once.

    Parameters
    ----------
    compress : bool
        Smaller and slower.
    """

    def __init__(self, *, compress: bool) -> None:
        self._compress = compress
        self._made: dict[Hashable, Any] = {}

    def __call__(self, group: Any, name: str, spec: ArraySpec) -> Any:
        """Return a new dataset in a group."""
        dtype, chunks = _stored_type(spec), () if 0 in spec.shape else spec.chunks
        kind = self._once(("type", dtype.str), lambda: h5t.py_create(dtype, logical=True))
        space = self._once(("space", spec.shape), lambda: h5s.create_simple(spec.shape))
        settings = self._once(("settings", chunks), lambda: self._settings(chunks))
        return h5d.create(group.id, name.encode(), kind, space, settings)

    def _once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def _settings(self, chunks: tuple[int, ...]) -> Any:
        settings = h5p.create(h5p.DATASET_CREATE)
        settings.set_obj_track_times(False)  # equal contents make equal files
        if chunks:
            settings.set_chunk(chunks)
            if self._compress:
                settings.set_shuffle()
            # Packed also where that saves nothing: the checksum of HDF5 alone takes a page of zeros for sound.
            settings.set_deflate(int(self._compress))
            settings.set_fletcher32()
        return settings


def _stored_type(spec: ArraySpec) -> Any:
    dtype = np.dtype(spec.dtype)
    return h5py.string_dtype("utf-8", dtype.itemsize) if dtype.kind == "S" else dtype


def dataset_at(group: Any, name: str) -> Any:
    """Return a dataset of a group."""
    return h5d.open(group.id, name.encode())


def write_part(dataset: Any, spec: ArraySpec, part: slice, values: Array) -> None:
    """Write rows of a dataset."""
    memory, chosen = _spaces(dataset, spec, part)
    dataset.write(memory, chosen, np.ascontiguousarray(values, _stored_type(spec)))


def read_part(dataset: Any, spec: ArraySpec, part: slice) -> Array:
    """Return rows of a dataset, which has to have the shape of the specification."""
    values = np.empty((part.stop - part.start, *spec.shape[1:]), _stored_type(spec))
    memory, chosen = _spaces(dataset, spec, part)
    dataset.read(memory, chosen, values)
    return values


def _spaces(dataset: Any, spec: ArraySpec, part: slice) -> tuple[Any, Any]:
    """Return the spaces in memory and in the file of some rows."""
    if (part.start, part.stop) == (0, spec.shape[0]):
        return h5s.ALL, h5s.ALL
    count = (part.stop - part.start, *spec.shape[1:])
    chosen = dataset.get_space()
    chosen.select_hyperslab((part.start, *(0 for _ in spec.shape[1:])), count)
    return h5s.create_simple(count), chosen


def attribute_at(group: Any, name: str) -> Any:
    """Return the value of an attribute of a group; a text as bytes."""
    attribute = h5a.open(group.id, name.encode())
    values = np.empty(attribute.shape, attribute.dtype)
    attribute.read(values)
    return values if values.shape else values.item()
